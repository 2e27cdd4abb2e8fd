package posix

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"golang.org/x/sys/unix"
)

// testRenameOverOpen: a handle goes on reading and writing the file that was replaced under its name.
func testRenameOverOpen(t *testing.T, p *place) {
	target := p.path("uidlist")
	old, fresh := noise(10, 12345), noise(11, 54321)
	write(t, target, old)
	f := open(t, target, os.O_RDWR)
	m := mapShared(t, f, len(old), unix.PROT_READ)
	write(t, p.path("new"), fresh)
	newIno := stat(t, p.path("new")).Ino
	must(t, os.Rename(p.path("new"), target))
	expect(t, target, fresh)
	if got := stat(t, target).Ino; got != newIno {
		t.Errorf("inode %d under the name, want that of the renamed file %d", got, newIno)
	}
	if got := contentOf(t, f); !bytes.Equal(got, old) {
		t.Errorf("the handle: %s", difference(got, old))
	}
	if !bytes.Equal(m, old) {
		t.Errorf("the mapping: %s", difference(m, old))
	}
	if st := fstat(t, f); st.Nlink != 0 || st.Size != int64(len(old)) {
		t.Errorf("the handle has %d links and %d bytes, want 0 and %d", st.Nlink, st.Size, len(old))
	}
	_, err := f.WriteAt([]byte("more"), int64(len(old)))
	must(t, err)
	must(t, f.Sync())
	if got, want := contentOf(t, f), append(old, "more"...); !bytes.Equal(got, want) {
		t.Errorf("the handle after a write: %s", difference(got, want))
	}
	expect(t, target, fresh)
}

// version is the content that the replacing process writes: its size and every byte tell the number.
func version(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 1000+(i%40)*333) }

// childReplace DIR COUNT replaces "target" by new versions through rename, as mail servers replace their lists.
func childReplace(c *harness.Child) error {
	for i := range c.Int(1) {
		tmp := c.Args[0] + "/tmp"
		if err := os.WriteFile(tmp, version(i), 0o644); err != nil {
			return err
		}
		if err := os.Rename(tmp, c.Args[0]+"/target"); err != nil {
			return err
		}
	}
	return nil
}

// testRenameWhileOpening: opening a name that others replace all the time always finds a file, and always a whole one.
func testRenameWhileOpening(t *testing.T, p *place) {
	write(t, p.path("target"), version(0))
	c := harness.Spawn(t, "replace", p.dir, "1500")
	done := c.Ended()
	for n := 0; ; n++ {
		f, err := os.Open(p.path("target"))
		if err != nil {
			t.Fatalf("open %d: %v", n, err)
		}
		st := fstat(t, f)
		b, err := io.ReadAll(f)
		must(t, err)
		must(t, f.Close())
		if len(b) == 0 || !bytes.Equal(b, bytes.Repeat(b[:1], len(b))) || len(b) != 1000+(len(b)-1000)/333*333 || int64(len(b)) != st.Size {
			t.Fatalf("open %d: a mix: %d bytes, size %d", n, len(b), st.Size)
		}
		var s unix.Stat_t
		if err := unix.Stat(p.path("target"), &s); err != nil {
			t.Fatalf("stat %d: %v", n, err)
		}
		select {
		case <-done:
			c.Wait(t)
			return
		default:
		}
	}
}

func testRenameFlags(t *testing.T, p *place) {
	a, b := p.path("a"), p.path("b")
	write(t, a, []byte("a"))
	write(t, b, []byte("b"))
	if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_NOREPLACE); !errors.Is(err, unix.EEXIST) {
		t.Errorf("NOREPLACE over a file: %v, want EEXIST", err)
	}
	expect(t, a, []byte("a"))
	expect(t, b, []byte("b"))
	must(t, unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, p.path("c"), unix.RENAME_NOREPLACE))
	expect(t, p.path("c"), []byte("a"))
	switch err := unix.Renameat2(unix.AT_FDCWD, b, unix.AT_FDCWD, p.path("c"), unix.RENAME_EXCHANGE); {
	case errors.Is(err, unix.EINVAL):
		expect(t, b, []byte("b"))
		expect(t, p.path("c"), []byte("a"))
	case err != nil:
		t.Errorf("EXCHANGE: %v, want success or EINVAL", err)
	default:
		expect(t, b, []byte("a"))
		expect(t, p.path("c"), []byte("b"))
	}
	// A rename between two names of one file does nothing.
	must(t, os.Link(b, p.path("d")))
	must(t, unix.Rename(b, p.path("d")))
	if st := stat(t, b); st.Nlink != 2 {
		t.Errorf("%d links, want 2", st.Nlink)
	}
}

func testRenameDirectories(t *testing.T, p *place) {
	src := mkdir(t, p.dir, "src")
	sub := mkdir(t, src, "sub")
	write(t, sub+"/f", []byte("x"))
	fd := open(t, sub, os.O_RDONLY)
	f := open(t, sub+"/f", os.O_RDWR)
	must(t, os.Rename(src, p.path("dst")))
	expect(t, p.path("dst/sub/f"), []byte("x"))
	_, err := f.WriteAt([]byte("yz"), 1)
	must(t, err)
	expect(t, p.path("dst/sub/f"), []byte("xyz"))
	if g, err := unix.Openat(int(fd.Fd()), "f", unix.O_RDONLY, 0); err != nil {
		t.Errorf("openat below a renamed directory: %v", err)
	} else {
		must(t, unix.Close(g))
	}
	if _, err := os.Lstat(src); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old name: %v", err)
	}
	empty := mkdir(t, p.dir, "empty")
	for _, c := range []struct {
		from, to string
		want     error
	}{
		{p.path("dst"), p.path("dst/sub/in"), unix.EINVAL},
		{empty, p.path("dst"), unix.ENOTEMPTY},
		{p.path("dst/sub/f"), empty, unix.EISDIR},
		{empty, p.path("dst/sub/f"), unix.ENOTDIR},
		{p.path("no"), p.path("yes"), unix.ENOENT},
		{p.path("dst"), empty, nil},
	} {
		if err := unix.Rename(c.from, c.to); !errors.Is(err, c.want) {
			t.Errorf("rename %s to %s: %v, want %v", c.from, c.to, err, c.want)
		}
	}
	expect(t, empty+"/sub/f", []byte("xyz"))
	// ".." follows.
	must(t, os.Rename(empty+"/sub", p.path("up")))
	if a, b := stat(t, p.path("up")+"/.."), stat(t, p.dir); a.Ino != b.Ino {
		t.Errorf(".. has inode %d, want %d", a.Ino, b.Ino)
	}
	if err := unix.Rmdir(p.path("up")); !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("rmdir of a full directory: %v", err)
	}
}

// testUnlinked: everything works on a handle whose file has no name any more.
func testUnlinked(t *testing.T, p *place) {
	path := p.path("f")
	want := noise(12, 9000)
	write(t, path, want)
	f := open(t, path, os.O_RDWR)
	ro := open(t, path, os.O_RDONLY)
	fd := int(f.Fd())
	must(t, os.Remove(path))
	must(t, f.Sync())
	must(t, unix.Fchmod(fd, 0o600))
	must(t, unix.Fchown(fd, 12, 34))
	times := []unix.Timeval{{Sec: 1000, Usec: 1}, {Sec: 2000, Usec: 2}}
	must(t, unix.Futimes(fd, times))
	if st := fstat(t, f); st.Nlink != 0 || st.Mode&0o777 != 0o600 || st.Uid != 12 || st.Gid != 34 || st.Mtim.Sec != 2000 || st.Size != 9000 {
		t.Errorf("fstat: %+v", st)
	}
	_, err := f.WriteAt([]byte("more"), 8998)
	must(t, err)
	want = append(want[:8998], "more"...)
	must(t, f.Truncate(9001))
	want = want[:9001]
	must(t, unix.Fdatasync(fd))
	if got := contentOf(t, ro); !bytes.Equal(got, want) {
		t.Error(difference(got, want))
	}
	must(t, unix.Fsetxattr(fd, "user.x", []byte("y"), 0))
	again, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_RDONLY, 0)
	must(t, err)
	defer func() { _ = again.Close() }()
	if got := contentOf(t, again); !bytes.Equal(got, want) {
		t.Error("reopened: " + difference(got, want))
	}
	write(t, path, []byte("another")) // the name is free
	expect(t, path, []byte("another"))
	if got := contentOf(t, f); !bytes.Equal(got, want) {
		t.Error("with another file under the name: " + difference(got, want))
	}
}

func testUnlinkedDirectory(t *testing.T, p *place) {
	dir := mkdir(t, p.dir, "d")
	f := open(t, dir, os.O_RDONLY)
	must(t, os.Remove(dir))
	must(t, f.Sync())
	if st := fstat(t, f); st.Mode&unix.S_IFMT != unix.S_IFDIR {
		t.Errorf("mode %o", st.Mode)
	}
	if _, err := unix.Openat(int(f.Fd()), "x", unix.O_CREAT|unix.O_WRONLY, 0o600); !errors.Is(err, unix.ENOENT) {
		t.Errorf("create in a removed directory: %v, want ENOENT", err)
	}
	names, err := f.Readdirnames(-1)
	if err != nil && !errors.Is(err, unix.ENOENT) || len(names) != 0 {
		t.Errorf("a removed directory lists %q, %v", names, err)
	}
}

// testHardLinks: attributes are fresh under every name and handle after each change.
func testHardLinks(t *testing.T, p *place) {
	sub := mkdir(t, p.dir, "sub")
	names := []string{p.path("a")}
	want := noise(13, 5000)
	write(t, names[0], want)
	f := open(t, names[0], os.O_RDWR)
	check := func(links int) {
		t.Helper()
		st := fstat(t, f)
		if int(st.Nlink) != links || st.Size != int64(len(want)) {
			t.Fatalf("handle: %d links, %d bytes, want %d and %d", st.Nlink, st.Size, links, len(want))
		}
		for _, n := range names {
			s := stat(t, n)
			s.Atim, st.Atim = unix.Timespec{}, unix.Timespec{}
			if s != st {
				t.Fatalf("%s: %+v, the handle: %+v", n, s, st)
			}
			expect(t, n, want)
		}
	}
	for i := range 10 {
		name := fmt.Sprintf("%s/%d", sub, i)
		must(t, os.Link(names[i/2], name))
		names = append(names, name)
		check(i + 2)
		_, err := f.WriteAt([]byte{byte(i)}, int64(len(want)))
		must(t, err)
		want = append(want, byte(i))
		check(i + 2)
	}
	must(t, os.Chmod(names[3], 0o640))
	check(11)
	must(t, os.Rename(names[0], p.path("renamed")))
	names[0] = p.path("renamed")
	check(11)
	for i := range 9 {
		must(t, os.Remove(names[0]))
		names = names[1:]
		check(10 - i)
	}
	write(t, p.path("over"), nil)
	must(t, os.Rename(p.path("over"), names[0])) // takes one name away
	names = names[1:]
	check(1)
	if err := os.Link(names[0], names[0]); !errors.Is(err, unix.EEXIST) {
		t.Errorf("link over itself: %v", err)
	}
	if err := os.Link(sub, p.path("dirlink")); !errors.Is(err, unix.EPERM) {
		t.Errorf("link of a directory: %v", err)
	}
}

// testLinkThenAppend: an append after link(2) goes to the right end (the reply to LINK carries the size too).
func testLinkThenAppend(t *testing.T, p *place) {
	a, b := p.path("a"), p.path("b")
	for i, n := range []int{0, 1, 4010, 4066, 5000} {
		want := noise(uint64(n), n)
		write(t, a, want)
		must(t, os.Link(a, b))
		f, err := os.OpenFile(b, os.O_WRONLY|os.O_APPEND, 0)
		must(t, err)
		_, err = f.Write([]byte("tail"))
		must(t, err)
		must(t, f.Close())
		expect(t, a, append(want, "tail"...))
		if i%2 == 0 {
			a, b = b, a
		}
		must(t, os.Remove(b))
		must(t, os.Rename(a, p.path("a")))
		a, b = p.path("a"), p.path("b")
	}
}

// childDotlock DIR COUNT ID takes a lock by link(2) in the manner of mail programs and increments a number under it.
func childDotlock(c *harness.Child) error {
	dir, mine := c.Args[0], c.Args[0]+"/"+c.Args[2]
	for range c.Int(1) {
		if err := os.WriteFile(mine, []byte(c.Args[2]), 0o600); err != nil {
			return err
		}
		for {
			err := os.Link(mine, dir+"/lock")
			var st unix.Stat_t
			if e := unix.Stat(mine, &st); e != nil {
				return e
			}
			if (err == nil) != (st.Nlink == 2) {
				return fmt.Errorf("link: %v, but %d links", err, st.Nlink)
			}
			if err == nil {
				break
			}
			if !errors.Is(err, unix.EEXIST) {
				return err
			}
		}
		if err := increment(dir + "/number"); err != nil {
			return err
		}
		if err := errors.Join(os.Remove(dir+"/lock"), os.Remove(mine)); err != nil {
			return err
		}
	}
	return nil
}

func increment(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(string(b))
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(strconv.Itoa(n+1)), 0o644)
}

func testDotlockByLink(t *testing.T, p *place) {
	const procs, each = 3, 60
	write(t, p.path("number"), []byte("0"))
	var ps []*harness.Proc
	for i := range procs {
		ps = append(ps, harness.Spawn(t, "dotlock", p.dir, strconv.Itoa(each), fmt.Sprint("p", i)))
	}
	for _, c := range ps {
		c.Wait(t)
	}
	if got := string(read(t, p.path("number"))); got != strconv.Itoa(procs*each) {
		t.Errorf("%s increments of %d are there", got, procs*each)
	}
}

// testExclusiveRace: of many processes that create one name with O_EXCL, exactly one succeeds.
func testExclusiveRace(t *testing.T, p *place) {
	const procs, rounds = 3, 200
	var ps []*harness.Proc
	for range procs {
		c := harness.Spawn(t, "churn", "exclusive", p.dir, strconv.Itoa(rounds))
		c.Expect(t, "ready")
		ps = append(ps, c)
	}
	for _, c := range ps {
		c.Tell(t, "go")
	}
	won := 0
	for _, c := range ps {
		n, err := strconv.Atoi(c.Line(t))
		must(t, err)
		won += n
		c.Wait(t)
	}
	if won != rounds {
		t.Errorf("%d creations of %d names succeeded", won, rounds)
	}
	entries, err := os.ReadDir(p.dir)
	must(t, err)
	if len(entries) != rounds {
		t.Errorf("%d entries, want %d", len(entries), rounds)
	}
}
