package posix

import (
	"errors"
	"os"
	"path/filepath"
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
