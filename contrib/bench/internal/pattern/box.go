package pattern

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// Box is the maildir of one worker: its own user, as parallel work on a mail server is mostly for different users. A Box
// is used by one goroutine at a time.
type Box struct {
	dir  string
	rnd  *rand.Rand
	body []byte // what messages are cut from
	buf  []byte // where reads go

	fixtures map[string]int // messages of each fixture folder that are there
}

const (
	maxMessage = 50 << 10
	minMessage = 4 << 10
	record     = 200 // bytes of an appended log record
)

// NewBox makes a maildir in dir, which must exist and be empty. Boxes with the same seed do the same things.
func NewBox(dir string, seed uint64) (*Box, error) {
	b := &Box{
		dir:      dir,
		rnd:      rand.New(rand.NewPCG(seed, 1)),
		body:     make([]byte, 256<<10),
		buf:      make([]byte, 256<<10),
		fixtures: map[string]int{},
	}
	for i := range b.body {
		b.body[i] = byte(' ' + b.rnd.IntN(95))
	}
	return b, b.folder("")
}

// Reseed starts the random sequence of the box anew: the same operations follow for the same seed, on whatever target.
func (b *Box) Reseed(seed uint64) { b.rnd = rand.New(rand.NewPCG(seed, 2)) }

func (b *Box) path(parts ...string) string {
	return filepath.Join(append([]string{b.dir}, parts...)...)
}

// folder makes the maildir folder of that name ("" is the inbox) if it is not there.
func (b *Box) folder(name string) error {
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(b.path(name, sub), 0o700); err != nil {
			return err
		}
	}
	return nil
}

// messageName is a maildir name as Dovecot gives, with exact sizes in it.
func messageName(i, size int) string {
	return fmt.Sprintf("%d.M%06dP%d.mx.example.org,S=%d,W=%d", 1700000000+i, i%1000000, 4000+i%97, size, size+size/60)
}

func (b *Box) message(size int) []byte {
	at := b.rnd.IntN(len(b.body) - size)
	return b.body[at : at+size]
}

func (b *Box) anySize() int { return minMessage + b.rnd.IntN(maxMessage-minMessage) }

// fixture sees to it that cur/ of a folder has at least n messages of that many bytes, and returns their paths. The
// messages stay for later batches: a pattern must leave them as it found them.
func (b *Box) fixture(folder string, n, size int) ([]string, error) {
	if err := b.folder(folder); err != nil {
		return nil, err
	}
	paths := make([]string, n)
	for i := range paths {
		paths[i] = b.path(folder, "cur", messageName(i, size)+":2,")
		if i < b.fixtures[folder] {
			continue
		}
		if err := create(paths[i], b.message(size), false); err != nil {
			return nil, err
		}
		b.fixtures[folder] = i + 1
	}
	return paths, nil
}

// clear removes all files in a directory and returns an error unless there were want of them.
func clear(dir string, want int) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	if len(entries) != want {
		return fmt.Errorf("%s has %d entries, want %d", dir, len(entries), want)
	}
	return nil
}

// expectSize returns an error unless the file has that many bytes.
func expectSize(path string, want int64) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Size() != want {
		return fmt.Errorf("%s has %d bytes, want %d", path, info.Size(), want)
	}
	return nil
}
