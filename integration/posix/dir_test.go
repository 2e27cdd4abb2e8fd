package posix

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"golang.org/x/sys/unix"
)

// childChurn exclusive DIR ROUNDS creates names that others create too and says how many it won;
// childChurn change DIR creates, renames and removes entries until its input ends.
func childChurn(c *harness.Child) error {
	if err := c.Say("ready"); err != nil {
		return err
	}
	if c.Args[0] == "change" {
		return change(c)
	}
	if _, err := c.Hear(); err != nil {
		return err
	}
	won := 0
	for i := range c.Int(2) {
		f, err := os.OpenFile(fmt.Sprintf("%s/%d", c.Args[1], i), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		switch {
		case err == nil:
			won++
			if err := f.Close(); err != nil {
				return err
			}
		case !errors.Is(err, os.ErrExist):
			return err
		}
	}
	return c.Say("%d", won)
}

func change(c *harness.Child) error {
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		_, _ = c.Hear()
	}()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return c.Say("%d", i)
		default:
		}
		name := fmt.Sprintf("%s/changing-%d", c.Args[1], i%500)
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			return err
		}
		if i%3 == 0 {
			if err := os.Rename(name, name+"-renamed"); err != nil {
				return err
			}
			name += "-renamed"
		}
		if i%5 != 0 {
			if err := os.Remove(name); err != nil {
				return err
			}
		}
	}
}

// entry is one answer of getdents64(2).
type entry struct {
	ino  uint64
	next int64 // offset of the entry after it
	kind byte
	name string
}

// getdents reads one buffer of entries.
func getdents(t *testing.T, fd, size int) []entry {
	t.Helper()
	buf := make([]byte, size)
	n, err := unix.Getdents(fd, buf)
	if err != nil {
		t.Fatalf("getdents: %v", err)
	}
	var all []entry
	for b := buf[:n]; len(b) > 0; {
		length := binary.NativeEndian.Uint16(b[16:])
		name, _, _ := strings.Cut(string(b[19:length]), "\x00")
		all = append(all, entry{binary.NativeEndian.Uint64(b), int64(binary.NativeEndian.Uint64(b[8:])), b[18], name})
		b = b[length:]
	}
	return all
}

// list reads a whole directory by one handle, with buffers of this size.
func list(t *testing.T, dir string, size int) []entry {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer func() { _ = unix.Close(fd) }()
	var all []entry
	for {
		more := getdents(t, fd, size)
		if len(more) == 0 {
			return all
		}
		all = append(all, more...)
	}
}

// testLargeDirectory lists a large directory while another process changes it: entries that stay are listed exactly once.
func testLargeDirectory(t *testing.T, p *place) {
	stable := 50000
	if p.inCur || os.Getenv("HARNESS_RACE") == "1" {
		stable = 5000 // the same code; the large number once, and not in a daemon that the race detector slows down
	}
	dir := mkdir(t, p.dir, "large")
	for i := range stable {
		fd, err := unix.Open(fmt.Sprintf("%s/stable-%d", dir, i), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
		must(t, err)
		must(t, unix.Close(fd))
	}
	churn := harness.Spawn(t, "churn", "change", dir)
	churn.Expect(t, "ready")
	for round := range 6 {
		seen := make(map[string]bool, stable)
		count := 0
		for _, e := range list(t, dir, 32<<10) {
			if !strings.HasPrefix(e.name, "stable-") {
				continue
			}
			if seen[e.name] {
				t.Fatalf("round %d: %s is listed twice", round, e.name)
			}
			seen[e.name] = true
			count++
		}
		if count != stable {
			t.Fatalf("round %d: %d stable entries of %d are listed", round, count, stable)
		}
	}
	churn.Tell(t, "stop")
	t.Logf("%s changes meanwhile", churn.Line(t))
	churn.Wait(t)
	names := map[string]bool{}
	for _, e := range list(t, dir, 1<<20) {
		names[e.name] = true
		if st := stat(t, dir+"/"+e.name); e.name != ".." && st.Ino != e.ino {
			t.Fatalf("%s has inode %d in the listing and %d by stat", e.name, e.ino, st.Ino)
		}
	}
	for n := range names {
		if n != "." && n != ".." {
			must(t, os.Remove(dir+"/"+n))
		}
	}
	must(t, os.Remove(dir))
}

// testDirectoryOffsets: seeking to an offset that getdents gave continues there, also when entries were removed and made
// meanwhile; rewinding shows the directory as it is.
func testDirectoryOffsets(t *testing.T, p *place) {
	const n = 600
	dir := mkdir(t, p.dir, "d")
	for i := range n {
		write(t, dir+"/"+strconv.Itoa(i), nil)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer func() { _ = unix.Close(fd) }()
	var all []entry
	for {
		more := getdents(t, fd, 1000)
		if len(more) == 0 {
			break
		}
		all = append(all, more...)
	}
	if len(all) != n+2 {
		t.Fatalf("%d entries, want %d", len(all), n+2)
	}
	for i := len(all) - 2; i >= 0; i -= 7 {
		_, err := unix.Seek(fd, all[i].next, 0)
		must(t, err)
		if got := getdents(t, fd, 300); len(got) == 0 || got[0] != all[i+1] {
			t.Fatalf("after the offset of entry %d: %v, want %v first", i, got, all[i+1])
		}
	}
	// Half way, every other entry on both sides goes and new ones come.
	half := len(all) / 2
	removed := map[string]bool{}
	for i, e := range all {
		if i%2 == 0 && e.name != "." && e.name != ".." {
			must(t, os.Remove(dir+"/"+e.name))
			removed[e.name] = true
			write(t, dir+"/new-"+e.name, nil)
		}
	}
	_, err = unix.Seek(fd, all[half].next, 0)
	must(t, err)
	rest := map[string]int{}
	for {
		more := getdents(t, fd, 1000)
		if len(more) == 0 {
			break
		}
		for _, e := range more {
			rest[e.name]++
		}
	}
	for i, e := range all {
		if want := i > half; !removed[e.name] && rest[e.name] > 0 != want {
			t.Errorf("entry %d (%s) is listed after the offset of entry %d: %v", i, e.name, half, !want)
		}
		if rest[e.name] > 1 {
			t.Errorf("%s is listed %d times", e.name, rest[e.name])
		}
	}
	_, err = unix.Seek(fd, 0, 0)
	must(t, err)
	left := 0
	for {
		more := getdents(t, fd, 32<<10)
		if len(more) == 0 {
			break
		}
		for _, e := range more {
			if removed[e.name] {
				t.Errorf("%s is listed after a rewind, although removed", e.name)
			}
			left++
		}
	}
	if left != n+2 {
		t.Errorf("%d entries after a rewind, want %d", left, n+2)
	}
}

// testInodeNumbers: a file has one inode number for its life, the same by stat, in listings, and after a restart, also when
// the number was that of a file removed a moment ago, as filesystems give them out.
func testInodeNumbers(t *testing.T, p *place) {
	inodes := map[string]uint64{}
	for i := range 1500 {
		gone, stays := p.path("gone"), p.path("stays-%d", i)
		write(t, gone, []byte("x"))
		if i%3 == 0 {
			must(t, os.Rename(gone, p.path("renamed")))
			write(t, gone, []byte("y"))
			must(t, os.Rename(p.path("renamed"), gone))
		}
		must(t, os.Remove(gone))
		write(t, stays, []byte("z"))
		inodes[stays] = stat(t, stays).Ino
	}
	check := func(when string) {
		t.Helper()
		for _, e := range list(t, p.dir, 32<<10) {
			want, ours := inodes[p.path("%s", e.name)]
			if got := stat(t, p.dir+"/"+e.name).Ino; ours && (got != want || e.ino != want) {
				t.Errorf("%s: %s had inode %d, has %d by stat and %d in the listing", when, e.name, want, got, e.ino)
			}
		}
	}
	check("at once")
	if p.refresh != nil {
		p.refresh(t)
		check("after a restart")
	}
}
