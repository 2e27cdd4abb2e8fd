package posix

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// testTimes: times are kept exactly, to the nanosecond: the mtime of a message is its date.
func testTimes(t *testing.T, p *place) {
	path, dir := p.path("f"), mkdir(t, p.dir, "d")
	write(t, path, noise(1, 5000))
	must(t, os.Symlink("f", p.path("l")))
	paths := []string{path, dir, p.path("l")}
	for i, ts := range []unix.Timespec{{Sec: 1, Nsec: 1}, {Sec: 981173106, Nsec: 123456789}, {Sec: 2208988800, Nsec: 999999999}, {Sec: -1000, Nsec: 5}} {
		for _, target := range paths {
			at := unix.Timespec{Sec: ts.Sec + 5, Nsec: 7}
			must(t, unix.UtimesNanoAt(unix.AT_FDCWD, target, []unix.Timespec{at, ts}, unix.AT_SYMLINK_NOFOLLOW))
			if st := stat(t, target); st.Mtim != ts || st.Atim != at {
				t.Errorf("%s, %d: mtime %v, atime %v, want %v, %v", target, i, st.Mtim, st.Atim, ts, at)
			}
		}
	}
	want := unix.Timespec{Sec: 981173106, Nsec: 123456789}
	keep := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, want}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, keep, 0))
	f := open(t, path, os.O_RDWR)
	_ = contentOf(t, f)
	must(t, os.Rename(path, p.path("g")))
	must(t, os.Link(p.path("g"), path))
	must(t, os.Chmod(path, 0o600))
	must(t, f.Sync())
	for _, name := range []string{path, p.path("g")} {
		if st := stat(t, name); st.Mtim != want {
			t.Errorf("%s: mtime %v after read, rename, link, chmod, fsync, want %v", name, st.Mtim, want)
		}
	}
	// Times set on a handle after writing stay when it is closed and the caches are gone.
	_, err := f.WriteAt([]byte("z"), 10)
	must(t, err)
	if st := fstat(t, f); st.Mtim == want {
		t.Error("a write did not change the mtime")
	}
	must(t, unix.Futimes(int(f.Fd()), []unix.Timeval{{Sec: 5}, {Sec: 77, Usec: 3}}))
	must(t, f.Close())
	if st := stat(t, path); st.Mtim != (unix.Timespec{Sec: 77, Nsec: 3000}) {
		t.Errorf("mtime %v after close", st.Mtim)
	}
	if p.refresh != nil {
		p.refresh(t)
		if st := stat(t, path); st.Mtim != (unix.Timespec{Sec: 77, Nsec: 3000}) {
			t.Errorf("mtime %v after a restart", st.Mtim)
		}
	}
	now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, now, 0))
	if st := stat(t, path); time.Since(time.Unix(st.Mtim.Unix())).Abs() > time.Minute {
		t.Errorf("UTIME_NOW gave %v", st.Mtim)
	}
}

// testDirectoryTimes: the mtime of a directory advances when an entry comes, goes or changes its name, and stays otherwise.
func testDirectoryTimes(t *testing.T, p *place) {
	dir, other := mkdir(t, p.dir, "d"), mkdir(t, p.dir, "other")
	past := []unix.Timespec{{Sec: 1000}, {Sec: 1000}}
	reset := func() {
		t.Helper()
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, dir, past, 0))
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, other, past, 0))
	}
	long := strings.Repeat("L", 250)
	for _, c := range []struct {
		name         string
		do           func() error
		dir, another bool // which mtime advances
	}{
		{"create", func() error { return os.WriteFile(dir+"/f", noise(1, 5000), 0o644) }, true, false},
		{"create, long name", func() error { return os.WriteFile(dir+"/"+long, []byte("x"), 0o644) }, true, false},
		{"write", func() error { return os.WriteFile(dir+"/f", noise(2, 6000), 0o644) }, false, false},
		{"write, long name", func() error { return os.WriteFile(dir+"/"+long, []byte("y"), 0o644) }, false, false},
		{"chmod", func() error { return os.Chmod(dir+"/f", 0o600) }, false, false},
		{"read", func() error { _, err := os.ReadFile(dir + "/f"); return err }, false, false},
		{"list", func() error { _, err := os.ReadDir(dir); return err }, false, false},
		{"failed create", func() error { _ = os.Mkdir(dir+"/f", 0o755); return nil }, false, false},
		{"failed remove", func() error { _ = os.Remove(dir + "/missing"); return nil }, false, false},
		{"chmod of itself", func() error { return os.Chmod(dir, 0o700) }, false, false},
		{"rename inside", func() error { return os.Rename(dir+"/f", dir+"/g") }, true, false},
		{"rename out", func() error { return os.Rename(dir+"/g", other+"/g") }, true, true},
		{"rename out, long name", func() error { return os.Rename(dir+"/"+long, other+"/"+long) }, true, true},
		{"link", func() error { return os.Link(other+"/g", dir+"/h") }, true, false},
		{"mkdir", func() error { return os.Mkdir(dir+"/sub", 0o755) }, true, false},
		{"create below", func() error { return os.WriteFile(dir+"/sub/f", nil, 0o644) }, false, false},
		{"symlink", func() error { return os.Symlink("x", dir+"/l") }, true, false},
		{"mkfifo", func() error { return unix.Mkfifo(dir+"/p", 0o600) }, true, false},
		{"replace", func() error { return os.Rename(dir+"/h", dir+"/l") }, true, false},
		{"unlink", func() error { return os.Remove(dir + "/l") }, true, false},
		{"rmdir", func() error { return errors.Join(os.Remove(dir+"/sub/f"), os.Remove(dir+"/sub")) }, true, false},
		{"unlink elsewhere", func() error { return os.Remove(other + "/" + long) }, false, true},
	} {
		reset()
		must(t, c.do())
		for path, want := range map[string]bool{dir: c.dir, other: c.another} {
			if got := stat(t, path).Mtim.Sec != 1000; got != want {
				t.Errorf("%s: the mtime of %s advanced: %v, want %v", c.name, filepath.Base(path), got, want)
			}
		}
	}
}

func testXattrs(t *testing.T, p *place) {
	write(t, p.path("f"), []byte("x"))
	dir := mkdir(t, p.dir, "d")
	for _, path := range []string{p.path("f"), dir} {
		set := map[string][]byte{
			"user.empty": {}, "user.dovecot.x": []byte("v"), "user.binary": noise(1, 300), "user." + strings.Repeat("n", 100): []byte("long name"),
		}
		for n, v := range set {
			must(t, unix.Setxattr(path, n, v, 0))
		}
		for n, v := range set {
			if got, err := getxattr(path, n); err != nil || !bytes.Equal(got, v) {
				t.Errorf("%s: %q, %v, want %q", n, got, err, v)
			}
		}
		names := listxattr(t, path)
		for n := range set {
			if !slices.Contains(names, n) {
				t.Errorf("%s is not listed in %q", n, names)
			}
		}
		if len(names) != len(set) {
			t.Errorf("%q are listed, want %d names", names, len(set))
		}
		if err := unix.Setxattr(path, "user.binary", nil, unix.XATTR_CREATE); !errors.Is(err, unix.EEXIST) {
			t.Errorf("create over an attribute: %v", err)
		}
		if err := unix.Setxattr(path, "user.new", nil, unix.XATTR_REPLACE); !errors.Is(err, unix.ENODATA) {
			t.Errorf("replace of nothing: %v", err)
		}
		if _, err := unix.Getxattr(path, "user.binary", make([]byte, 10)); !errors.Is(err, unix.ERANGE) {
			t.Errorf("a small buffer: %v", err)
		}
		must(t, unix.Setxattr(path, "user.binary", []byte("short"), unix.XATTR_REPLACE))
		must(t, unix.Removexattr(path, "user.empty"))
		if err := unix.Removexattr(path, "user.empty"); !errors.Is(err, unix.ENODATA) {
			t.Errorf("remove of nothing: %v", err)
		}
	}
	must(t, os.Rename(p.path("f"), p.path("g")))
	if got, err := getxattr(p.path("g"), "user.binary"); err != nil || string(got) != "short" {
		t.Errorf("after a rename: %q, %v", got, err)
	}
}

func getxattr(path, name string) ([]byte, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Lgetxattr(path, name, buf)
	return buf[:max(n, 0)], err
}

func listxattr(t *testing.T, path string) []string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	must(t, err)
	return slices.DeleteFunc(strings.Split(string(buf[:n]), "\x00"), func(s string) bool { return !strings.HasPrefix(s, "user.") })
}

func testSymlinks(t *testing.T, p *place) {
	for i, target := range []string{"x", "../../outside", "/absolute/path", "with space\nnewline", string([]byte{0xff, 0xfe, 1}), strings.Repeat("t/", 500), strings.Repeat("u", 255)} {
		l := p.path("l%d", i)
		must(t, os.Symlink(target, l))
		if got, err := os.Readlink(l); err != nil || got != target {
			t.Errorf("%q: %q, %v", target, got, err)
		}
		if st := stat(t, l); st.Size != int64(len(target)) || st.Mode != unix.S_IFLNK|0o777 {
			t.Errorf("%q: size %d, mode %o", target, st.Size, st.Mode)
		}
	}
	write(t, p.path("file"), []byte("content"))
	must(t, os.Symlink("file", p.path("to-file")))
	expect2 := func(path string) {
		t.Helper()
		if got := string(read(t, path)); got != "content" {
			t.Errorf("%s: %q", path, got)
		}
	}
	expect2(p.path("to-file"))
	must(t, os.Rename(p.path("to-file"), p.path("renamed")))
	expect2(p.path("renamed"))
	must(t, unix.Linkat(unix.AT_FDCWD, p.path("renamed"), unix.AT_FDCWD, p.path("hard"), 0))
	if st := stat(t, p.path("hard")); st.Mode&unix.S_IFMT != unix.S_IFLNK || st.Nlink != 2 {
		t.Errorf("a hard link of a symbolic link: mode %o, %d links", st.Mode, st.Nlink)
	}
	must(t, os.Symlink("loop", p.path("loop")))
	if _, err := os.ReadFile(p.path("loop")); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a loop: %v", err)
	}
	must(t, unix.Lchown(p.path("renamed"), 7, 8))
	if st := stat(t, p.path("renamed")); st.Uid != 7 || st.Gid != 8 {
		t.Errorf("owner %d:%d", st.Uid, st.Gid)
	}
}

func testSpecialFiles(t *testing.T, p *place) {
	fifo := p.path("fifo")
	must(t, unix.Mkfifo(fifo, 0o640))
	if st := stat(t, fifo); st.Mode != unix.S_IFIFO|0o640 {
		t.Errorf("mode %o", st.Mode)
	}
	rw, err := os.OpenFile(fifo, os.O_RDWR, 0)
	must(t, err)
	defer func() { _ = rw.Close() }()
	_, err = rw.Write([]byte("through"))
	must(t, err)
	buf := make([]byte, 20)
	if n, err := rw.Read(buf); err != nil || string(buf[:n]) != "through" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	must(t, os.Chdir(p.dir)) // sun_path is short
	defer func() { _ = os.Chdir("/") }()
	l, err := net.Listen("unix", "socket")
	must(t, err)
	defer func() { _ = l.Close() }()
	if st := stat(t, p.path("socket")); st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		t.Errorf("mode %o", st.Mode)
	}
	c, err := net.Dial("unix", "socket")
	must(t, err)
	must(t, c.Close())
	must(t, os.Rename(p.path("fifo"), p.path("fifo2")))
	kinds := map[string]byte{}
	for _, e := range list(t, p.dir, 4096) {
		kinds[e.name] = e.kind
	}
	if kinds["fifo2"] != unix.DT_FIFO || kinds["socket"] != unix.DT_SOCK {
		t.Errorf("types in the listing: %v", kinds)
	}
	// A device node works or is refused as mknod(2) says.
	if err := unix.Mknod(p.path("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil && !errors.Is(err, unix.EPERM) {
		t.Errorf("mknod of a device: %v", err)
	}
}

// names are hard names of 1 to 255 bytes.
func hardNames() []string {
	every := make([]byte, 0, 253)
	for b := 1; b < 256; b++ {
		if b != '/' {
			every = append(every, byte(b))
		}
	}
	names := []string{
		"a", " ", "...", "..a", ".hidden", "-rf", "~", "new\nline", "tab\t", "1700000000.M1P2.host,S=1234,W=1250:2,FRSab",
		"ümläut", "u\u0308", "\u00fc", string([]byte{0xff}), string([]byte{0xc3}), string(every), "x.n", "=", "%2F", "İ", "CON", "a\\b",
	}
	for _, n := range []int{100, 142, 171, 172, 173, 200, 240, 254, 255} {
		names = append(names, strings.Repeat("n", n), strings.Repeat("\xff", n-1)+"x", strings.Repeat("m", n-1)+"\n")
	}
	return names
}

func testNames(t *testing.T, p *place) { roundTrip(t, p, hardNames()) }

// testNamesLikeEncrypted: names that look like stored ones (FORMAT.md section 2) are names like any other.
func testNamesLikeEncrypted(t *testing.T, p *place) {
	b43 := strings.Repeat("A", 43)
	names := []string{
		"mc1=", "mc1=abc", "mc1=" + strings.Repeat("A", 24), "mc1+" + b43, "mc1+" + b43 + ".n", "mc1~", "mc1~x", "mc2=x", "mc9+y", "mc0~z",
		".mailcryptfs", "mc1", "mc", "mcx=1", "mc1-", "mc1=" + strings.Repeat("A", 251), "mc1~" + strings.Repeat("z", 251),
	}
	roundTrip(t, p, names)
}

// roundTrip makes files, directories and links of these names, lists, renames, links and removes them.
func roundTrip(t *testing.T, p *place, names []string) {
	t.Helper()
	check := func(dir string) {
		t.Helper()
		got := map[string]bool{}
		for _, e := range list(t, dir, 8192) {
			got[e.name] = true
		}
		for _, n := range names {
			if !got[n] {
				t.Errorf("%q is not listed in %s", n, filepath.Base(dir))
			}
		}
		if len(got) != len(names)+2 {
			t.Errorf("%d entries in %s, want %d", len(got), filepath.Base(dir), len(names)+2)
		}
	}
	files, dirs, links := mkdir(t, p.dir, "files"), mkdir(t, p.dir, "dirs"), mkdir(t, p.dir, "links")
	for i, n := range names {
		content := fmt.Appendf(nil, "content %d", i)
		write(t, files+"/"+n, content)
		expect(t, files+"/"+n, content)
		mkdir(t, dirs, n)
		write(t, dirs+"/"+n+"/"+n, content)
		must(t, os.Symlink(n, links+"/"+n))
		if _, err := os.OpenFile(files+"/"+n, os.O_CREATE|os.O_EXCL, 0); !errors.Is(err, os.ErrExist) {
			t.Errorf("%q again: %v", n, err)
		}
	}
	if p.refresh != nil {
		p.refresh(t)
	}
	check(files)
	check(dirs)
	check(links)
	second := mkdir(t, p.dir, "second")
	for i, n := range names {
		content := fmt.Appendf(nil, "content %d", i)
		expect(t, dirs+"/"+n+"/"+n, content)
		if got, err := os.Readlink(links + "/" + n); err != nil || got != n {
			t.Errorf("link %q: %q, %v", n, got, err)
		}
		must(t, os.Link(files+"/"+n, second+"/"+n))
		must(t, os.Rename(files+"/"+n, files+"/temporary"))
		must(t, os.Rename(files+"/temporary", files+"/"+n))
		must(t, os.Rename(dirs+"/"+n, dirs+"/temporary"))
		must(t, os.Rename(dirs+"/temporary", dirs+"/"+n))
		write(t, p.path("other"), []byte("other"))
		must(t, os.Rename(p.path("other"), second+"/"+n)) // over a name
		expect(t, files+"/"+n, content)
		if st := stat(t, files+"/"+n); st.Nlink != 1 {
			t.Errorf("%q: %d links", n, st.Nlink)
		}
	}
	check(files)
	check(dirs)
	check(second)
	for _, n := range names {
		must(t, os.Remove(files+"/"+n))
		must(t, os.Remove(second+"/"+n))
		must(t, os.Remove(links+"/"+n))
		must(t, os.Remove(dirs+"/"+n+"/"+n))
		must(t, os.Remove(dirs+"/"+n))
	}
	for _, d := range []string{files, dirs, links, second} {
		if left := list(t, d, 8192); len(left) != 2 {
			t.Errorf("%d entries are left in %s", len(left)-2, filepath.Base(d))
		}
		must(t, os.Remove(d))
	}
	for _, n := range []string{strings.Repeat("n", 256)} {
		if err := os.WriteFile(p.path("%s", n), nil, 0o600); !errors.Is(err, unix.ENAMETOOLONG) {
			t.Errorf("a name of %d bytes: %v", len(n), err)
		}
	}
}

// testDeepPath goes far beyond PATH_MAX by relative steps.
func testDeepPath(t *testing.T, p *place) {
	const depth = 60
	name := strings.Repeat("d", 200)
	fds := []int{}
	fd, err := unix.Open(p.dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	fds = append(fds, fd)
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	for range depth {
		must(t, unix.Mkdirat(fd, name, 0o755))
		fd, err = unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		fds = append(fds, fd)
	}
	f, err := unix.Openat(fd, "f", unix.O_CREAT|unix.O_RDWR, 0o600)
	must(t, err)
	_, err = unix.Write(f, []byte("deep"))
	must(t, err)
	must(t, unix.Fsync(f))
	must(t, unix.Close(f))
	must(t, unix.Renameat(fd, "f", fd, "g"))
	must(t, unix.Linkat(fd, "g", fds[0], "top", 0))
	must(t, unix.Fchmodat(fd, "g", 0o640, 0))
	f, err = unix.Openat(fd, "g", unix.O_RDONLY, 0)
	must(t, err)
	buf := make([]byte, 10)
	if n, err := unix.Read(f, buf); err != nil || string(buf[:n]) != "deep" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	must(t, unix.Close(f))
	expect(t, p.path("top"), []byte("deep"))
	must(t, unix.Unlinkat(fd, "g", 0))
	for i := depth - 1; i >= 0; i-- {
		must(t, unix.Unlinkat(fds[i], name, unix.AT_REMOVEDIR))
	}
}

// testInotify: changes made through the mount are told, as IMAP IDLE needs them.
func testInotify(t *testing.T, p *place) {
	dir := mkdir(t, p.dir, "new")
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	must(t, err)
	in := os.NewFile(uintptr(fd), "inotify")
	defer func() { _ = in.Close() }()
	_, err = unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_MOVED_FROM|unix.IN_DELETE|unix.IN_CLOSE_WRITE|unix.IN_MODIFY)
	must(t, err)
	must(t, in.SetReadDeadline(time.Now().Add(10*time.Second)))
	write(t, p.path("tmp"), []byte("x"))
	for _, c := range []struct {
		do   func() error
		mask []uint32
	}{
		{func() error { return os.Rename(p.path("tmp"), dir+"/msg") }, []uint32{unix.IN_MOVED_TO}},
		{func() error { return os.WriteFile(dir+"/f", []byte("x"), 0o644) }, []uint32{unix.IN_CREATE, unix.IN_MODIFY, unix.IN_CLOSE_WRITE}},
		{func() error { return os.Rename(dir+"/msg", p.path("cur")) }, []uint32{unix.IN_MOVED_FROM}},
		{func() error { return os.Remove(dir + "/f") }, []uint32{unix.IN_DELETE}},
		{func() error { return os.Link(p.path("cur"), dir+"/linked") }, []uint32{unix.IN_CREATE}},
	} {
		must(t, c.do())
		for _, want := range c.mask {
			buf := make([]byte, unix.SizeofInotifyEvent+256)
			// One event at a time fits: names here are short, and the kernel gives whole events only.
			n, err := in.Read(buf[:unix.SizeofInotifyEvent+16])
			if err != nil {
				t.Fatalf("no event %x: %v", want, err)
			}
			if got := uint32(buf[4]) | uint32(buf[5])<<8; n < unix.SizeofInotifyEvent || got&want == 0 {
				t.Errorf("event %x, want %x", got, want)
			}
		}
	}
}

func testModes(t *testing.T, p *place) {
	write(t, p.path("f"), []byte("x"))
	dir := mkdir(t, p.dir, "d")
	for _, mode := range []uint32{0, 0o400, 0o777, 0o2755, 0o4711, 0o1777, 0o7777} {
		for _, path := range []string{p.path("f"), dir} {
			must(t, unix.Chmod(path, mode))
			if st := stat(t, path); st.Mode&0o7777 != mode {
				t.Errorf("%s: mode %o, want %o", filepath.Base(path), st.Mode&0o7777, mode)
			}
		}
	}
	must(t, unix.Chown(p.path("f"), 1234, 5678))
	if st := stat(t, p.path("f")); st.Uid != 1234 || st.Gid != 5678 {
		t.Errorf("owner %d:%d", st.Uid, st.Gid)
	}
	must(t, unix.Chown(p.path("f"), -1, 99))
	if st := stat(t, p.path("f")); st.Uid != 1234 || st.Gid != 99 {
		t.Errorf("owner %d:%d", st.Uid, st.Gid)
	}
	if p.refresh != nil {
		p.refresh(t)
		if st := stat(t, p.path("f")); st.Uid != 1234 || st.Gid != 99 {
			t.Errorf("owner %d:%d after a restart", st.Uid, st.Gid)
		}
	}
	// An empty file with a size of its own: mode and size in one request, and blocks that are not nothing.
	must(t, os.WriteFile(p.path("big"), noise(1, 100000), 0o644))
	if st := stat(t, p.path("big")); st.Blocks*512 < 100000 || st.Blksize <= 0 {
		t.Errorf("%d blocks of 512, block size %d", st.Blocks, st.Blksize)
	}
}

func testStatfs(t *testing.T, p *place) {
	var st unix.Statfs_t
	must(t, unix.Statfs(p.dir, &st))
	if st.Blocks == 0 || st.Bavail == 0 || st.Ffree == 0 || st.Namelen != 255 || st.Bsize == 0 {
		t.Errorf("%+v", st)
	}
}
