package writers

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// Procs are the writers, for the TestMain of a package that uses them.
func Procs() harness.Procs {
	all := harness.Procs{}
	for name, make := range writers {
		all["writer-"+name] = func(c *harness.Child) error { return run(c, make) }
	}
	return all
}

// writer is the state of one process.
type writer struct {
	*account
	place  string // what it works on: a mailbox, a directory or a file of the view
	id     string // marks its names
	binary string // for writers that call verbs
	config string // for them too
	view   string // the mount point
}

// writers make, for each name, the step that a writer does again and again. Step 0 prepares.
var writers = map[string]func(*writer) func(i int) error{
	"deliver": (*writer).deliver,
	"append":  (*writer).append,
	"inplace": (*writer).inPlace,
	"rename":  (*writer).rename,
	"replace": (*writer).replace,
	"link":    (*writer).link,
	"folder":  (*writer).folder,
	"map":     (*writer).mapped,
	"passwd":  (*writer).passwd,
	"enroll":  (*writer).enroll,
	"toggle":  (*writer).toggle,
	"rotate":  (*writer).rotate,
}

// run is a writer's life: "PLACE ACCOUNT ID CLOCK BINARY CONFIG VIEW". It says "going" after the first step, and "ended"
// when the daemon is gone.
func run(c *harness.Child, make func(*writer) func(int) error) error {
	clock, err := NewClock(c.Args[3])
	if err != nil {
		return err
	}
	a, err := openAccount(c.Args[1], clock)
	if err != nil {
		return err
	}
	w := &writer{account: a, place: c.Args[0], id: c.Args[2], binary: c.Args[4], config: c.Args[5], view: c.Args[6]}
	step := make(w)
	for i := 0; ; i++ {
		if err := step(i); err != nil && w.gone(err) {
			return c.Say("ended")
		} else if err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
		if i == 0 {
			if err := c.Say("going"); err != nil {
				return err
			}
		}
	}
}

// errVerb is the failure of a verb, which can mean that the daemon is gone.
var errVerb = errors.New("a verb failed")

// gone says whether an error is what the end of the daemon looks like.
func (w *writer) gone(err error) bool {
	if errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED) {
		return true
	}
	for _, e := range []error{unix.EIO, unix.EINTR, errVerb} {
		if !errors.Is(err, e) {
			continue
		}
		for range 100 { // its sockets may be closed a moment before the mount is dead
			if err := unix.Statfs(w.view, new(unix.Statfs_t)); err == unix.ENOTCONN || err == unix.ECONNABORTED {
				return true
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return false
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// put makes a file, in two writes, and syncs it.
func put(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	half := len(content) / 2
	_, err = f.Write(content[:half])
	if err == nil {
		_, err = f.Write(content[half:])
	}
	return errors.Join(err, f.Sync(), f.Close())
}
