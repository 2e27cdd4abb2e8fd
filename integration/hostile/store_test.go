package hostile

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var (
	seedFlag = flag.Uint64("hostile.seed", 0, "first seed of the mutator; 0: another one each time")
	batches  = flag.Int("hostile.batches", 24, "how many times a store is changed and mounted")
)

// perBatch is how many changes are tried before the store is mounted again.
const perBatch = 160

func mkfifo(path string) error { return unix.Mkfifo(path, 0o600) }

// seed is where the random choices of a test begin; it is always printed.
func seed(t *testing.T) uint64 {
	n := *seedFlag
	if n == 0 {
		n = rand.Uint64() >> 16
	}
	t.Logf("again with: -run %s -hostile.seed=%d", t.Name(), n)
	return n
}

// tally counts outcomes by kind of change and layout.
type tally map[string]map[outcome]int

func (y tally) add(kind string, f *file, o outcome) {
	row := kind + ", padded"
	if f.writer {
		row = kind + ", write-once"
	}
	if y[row] == nil {
		y[row] = map[outcome]int{}
	}
	y[row][o]++
}

func (y tally) String() string {
	var b strings.Builder
	for _, row := range slices.Sorted(maps.Keys(y)) {
		fmt.Fprintf(&b, "\n%-52s", row)
		for _, o := range slices.Sorted(maps.Keys(y[row])) {
			fmt.Fprintf(&b, "  %d × %s", y[row][o], o)
		}
	}
	return b.String()
}

// TestChangedStore changes many entries of a store at random, mounts it, and reads everything, again and again. Each change
// has one of the outcomes that the table of kinds allows; what was not changed is as it was; the daemon answers all the time.
func TestChangedStore(t *testing.T) {
	p := populate(t)
	announceDamage(p.s)
	first, y, all := seed(t), tally{}, kinds()
	cases := 0
	for i := range *batches {
		b := &batch{T: t, p: p, seed: first + uint64(i), tally: y, all: all}
		cases += b.run(i%4 == 3)
		if t.Failed() {
			t.Fatalf("again with: -run %s -hostile.seed=%d -hostile.batches=%d", t.Name(), b.seed, i%4+1)
		}
	}
	t.Logf("%d changes in %d mounts: %s", cases, *batches, y)
	for _, k := range all {
		if *batches >= 8 && len(y[k.name+", write-once"])+len(y[k.name+", padded"]) == 0 {
			t.Errorf("no change of kind %q was tried", k.name)
		}
	}
}

// batch is one store that is changed in many places.
type batch struct {
	*testing.T
	p     *population
	seed  uint64
	tally tally
	all   []kind
}

// run changes, mounts and reads. live says that the store is changed while it is mounted and everything was read: caches may
// then give what was there before, and nothing but that.
func (b *batch) run(live bool) int {
	m := &mutator{rand.New(rand.NewPCG(b.seed, 1)), b.p, map[*file]bool{}}
	b.p.reset(b)
	if live {
		b.p.s.Serve(b)
		for _, f := range b.p.files {
			readable(b, filepath.Join(b.p.s.View, f.view), f.now().plain)
		}
	}
	changed, kindOf := map[*file]change{}, map[*file]kind{}
	for i := range perBatch {
		k := b.all[m.IntN(len(b.all))]
		if i < len(b.all) {
			k = b.all[i] // each kind once, while there are files that suit it
		}
		if c, ok := m.one(k); ok {
			changed[c.f], kindOf[c.f] = c, k
		}
	}
	if !live {
		b.p.s.Serve(b)
	}
	stop := b.watch()
	for _, f := range b.p.files {
		b.look(f, changed, kindOf[f], live)
	}
	b.walk()
	b.verify()
	b.poke(m, changed)
	for _, f := range b.p.of(bystander) {
		readable(b, filepath.Join(b.p.s.View, f.view), f.now().plain)
	}
	stop()
	b.p.s.Stop(b)
	if bad := mistakes(journal(b, b.p.s)); len(bad) > 0 {
		b.Errorf("in the daemon's log: %s", strings.Join(bad[:min(len(bad), 20)], "\n"))
	}
	return len(changed)
}

// look reads one file in one go and in pages, and judges what comes.
func (b *batch) look(f *file, changed map[*file]change, k kind, live bool) {
	path := filepath.Join(b.p.s.View, f.view)
	c, touched := changed[f]
	got, err := read(path)
	o := judge(f, got, err, c.instead)
	allowed := []outcome{same}
	if touched {
		allowed = k.padded
		if f.writer {
			allowed = k.once
		}
		if !live {
			b.tally.add(k.name, f, o)
		}
	}
	// A replaced message has no version that shares blocks with it, but caches may hold parts of both.
	if live && touched && o != wrong {
		allowed = append(slices.Clone(allowed), same, refusal, gone, older, mixed, shorter, empty, another)
	}
	if !slices.Contains(allowed, o) {
		b.Errorf("%s gave: %s (%d bytes, %v); allowed: %q", c, o, len(got), err, allowed)
	}
	if touched && c.kind == "copy it to another user" {
		copied := filepath.Join(b.p.s.View, c.detail)
		if got, err := read(copied); err == nil && len(got) > 0 && !errors.Is(err, unix.ENOENT) {
			b.Errorf("%s: %d bytes of it can be read as %s", c, len(got), c.detail)
		}
	}
	if touched && err != nil {
		b.pages(f, path, c)
	}
}

// pages reads a file that cannot be read as a whole in pieces: what comes has to be right.
func (b *batch) pages(f *file, path string, c change) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(fd) }()
	page := make([]byte, block)
	for at := 0; at < 1<<20; at += block {
		n, err := unix.Pread(fd, page, int64(at))
		if err != nil {
			continue
		}
		if n == 0 {
			return
		}
		if !slices.ContainsFunc(append([]*file{f}, c.instead...), func(o *file) bool { return o.hasBytes(at, page[:n]) }) {
			b.Errorf("%s: the page at %d is of no version", c, at)
		}
	}
}

// hasBytes says whether each piece of got that lies in one block is that of some version.
func (f *file) hasBytes(at int, got []byte) bool {
	for len(got) > 0 {
		end := firstCap
		for end <= at {
			end += otherCap
		}
		n := min(end-at, len(got))
		if !slices.ContainsFunc(f.versions, func(v version) bool {
			padded := make([]byte, max(at+n, len(v.plain)))
			copy(padded, v.plain)
			return bytes.Equal(padded[at:at+n], got[:n])
		}) {
			return false
		}
		at, got = at+n, got[n:]
	}
	return true
}

// walk lists everything and asks for every attribute.
func (b *batch) walk() {
	value := make([]byte, 4096)
	_ = filepath.WalkDir(b.p.s.View, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err == nil && st.Size < 0 {
			b.Errorf("%s has %d bytes", path, st.Size)
		}
		_, _ = unix.Llistxattr(path, value)
		_, _ = unix.Lgetxattr(path, "user.test", value)
		_, _ = os.Readlink(path)
		return nil
	})
}

// verify looks for the damage: it finds some, and finds nothing else the matter.
func (b *batch) verify() {
	if r := b.p.s.Call(b, nil, "verify", "--json"); r.Code != 0 && r.Code != 65 || strings.Contains(r.Err, "goroutine ") {
		b.Errorf("verify: exit %d: %s", r.Code, r.Err)
	}
}

// poke does to changed files what programs do; errors are fine, anything that hangs or breaks the daemon is not.
func (b *batch) poke(m *mutator, changed map[*file]change) {
	for _, f := range slices.SortedFunc(maps.Keys(changed), func(x, y *file) int { return strings.Compare(x.view, y.view) }) {
		path := filepath.Join(b.p.s.View, f.view)
		switch m.IntN(7) {
		case 0:
			_ = os.Rename(path, path+".moved")
		case 1:
			_ = os.Truncate(path, int64(m.IntN(9000)))
		case 2:
			if fd, err := unix.Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0); err == nil {
				_, _ = unix.Write(fd, make([]byte, m.IntN(5000)))
				_ = unix.Fsync(fd)
				_ = unix.Close(fd)
			}
		case 3:
			_ = os.Link(path, path+".link")
		case 4:
			_ = unix.Lsetxattr(path, "user.test", []byte("x"), 0)
		case 5:
			_ = os.Remove(path)
		case 6:
			_ = put(path, []byte("new"))
		}
		_, _ = read(path)
	}
}

// watch asks the daemon and the view again and again, until the function that it returns is called.
func (b *batch) watch() (stop func()) {
	const patience = 10 * time.Second
	done := make(chan struct{})
	var wg sync.WaitGroup
	var slowest time.Duration
	own := b.p.of(bystander)[3]
	wg.Go(func() {
		for {
			began := time.Now()
			got, err := read(filepath.Join(b.p.s.View, own.view))
			slowest = max(slowest, time.Since(began))
			if err != nil || !bytes.Equal(got, own.now().plain) {
				b.Errorf("%s: %v, %d bytes", own.view, err, len(got))
				return
			}
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
		if slowest > patience {
			b.Errorf("a file of a user whom nothing concerns took %v to read", slowest)
		}
		var v = b.p.s.Status(b, "--user", bystander)
		if v["unlocked"] != true {
			b.Errorf("status of %s: %v", bystander, v)
		}
	}
}
