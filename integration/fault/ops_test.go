package fault

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// scene is a directory of the view with what an operation works on: a folder whose messages lie in cur/ (write-once,
// private), and files of the mail server beside it (padded).
type scene struct {
	dir  string
	open []*os.File // closed at its end
	f    *os.File   // what the operation works on, if it has to be open before
}

func (s *scene) path(name string) string { return s.dir + "/" + name }

func (s *scene) close() {
	for _, f := range s.open {
		_ = f.Close()
	}
}

// keep opens a file until the scene ends.
func (s *scene) keep(name string, flags int) error {
	f, err := os.OpenFile(s.path(name), flags, 0o600)
	if err == nil {
		s.open, s.f = append(s.open, f), f
	}
	return err
}

// text is content of a size; other differs from it in every byte.
func text(size int) []byte {
	return bytes.Repeat([]byte("0123456789abcdefghijklmnopqrst\n"), size/31+1)[:size]
}

func other(size int) []byte { return bytes.Repeat([]byte("ZYXW"), size/4+1)[:size] }

var long, long2 = strings.Repeat("long", 50), strings.Repeat("lang", 60)

// The files that every scene has, with their sizes.
var furniture = map[string]int{"keep": 5000, "cur/msg": 9000, "index": 9000, "cur/" + long: 300, "small": 100}

func (s *scene) build() error {
	for _, d := range []string{"", "/cur", "/sub", "/" + long2} {
		if err := os.Mkdir(s.dir+d, 0o700); err != nil {
			return err
		}
	}
	for name, size := range furniture {
		f, err := os.OpenFile(s.path(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(text(size))
		if name == "cur/msg" || name == "index" { // what is changed in place, and so has to have been acknowledged
			err = errors.Join(err, f.Sync())
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return errors.Join(os.Symlink("keep", s.path("symlink")), unix.Setxattr(s.path("keep"), "user.a", []byte("value"), 0))
}

// op is one operation. What it leaves in the scene when nothing fails is found by doing it once.
type op struct {
	name  string
	prep  func(*scene) error // before anything fails
	do    func(*scene) error // must work when it is tried again
	data  bool               // a failure may leave any part of the change in the files' contents
	twice bool               // doing it again after it was done works too
}

func opened(name string, flags int) func(*scene) error {
	return func(s *scene) error { return s.keep(name, flags) }
}

func with(prep ...func(*scene) error) func(*scene) error {
	return func(s *scene) error {
		for _, p := range prep {
			if err := p(s); err != nil {
				return err
			}
		}
		return nil
	}
}

func create(name string) func(*scene) error {
	return func(s *scene) error { return s.keep(name, os.O_CREATE|os.O_EXCL|os.O_RDWR) }
}

func write(size int, off int64) func(*scene) error {
	return func(s *scene) error {
		n, err := s.f.WriteAt(other(size), off)
		if err == nil && n != size {
			return fmt.Errorf("wrote %d of %d bytes without an error", n, size)
		}
		return err
	}
}

func fsynced(s *scene) error { return s.f.Sync() }

func rename(from, to string) func(*scene) error {
	return func(s *scene) error { return unix.Rename(s.path(from), s.path(to)) }
}

func truncate(size int64) func(*scene) error {
	return func(s *scene) error { return s.f.Truncate(size) }
}

// reads opens, reads and closes a file; anything but an error or the right bytes is wrong.
func reads(name string, size int) func(*scene) error {
	return func(s *scene) error {
		b, err := os.ReadFile(s.path(name))
		if err == nil && !bytes.Equal(b, text(size)) {
			return fmt.Errorf("%w: read %d bytes, which are not those of %s", errWrong, len(b), name)
		}
		return err
	}
}

// errWrong is a wrong result without an error, which nothing excuses.
var errWrong = errors.New("wrong")

func at(call func(path string) error, name string) func(*scene) error {
	return func(s *scene) error { return call(s.path(name)) }
}

// list reads a whole directory; a list that is not complete must be an error.
func list(s *scene) error {
	entries, err := os.ReadDir(s.dir)
	if err == nil && len(entries) != 7 {
		return fmt.Errorf("%w: the directory has %d entries", errWrong, len(entries))
	}
	return err
}

func mapped(s *scene) (err error) {
	b, err := unix.Mmap(int(s.f.Fd()), 0, furniture["cur/msg"], unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return err
	}
	return unix.Munmap(b) // what could not be read would be a SIGBUS: the test of reading is another
}

func tmpfileNamed(s *scene) error {
	return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", s.f.Fd()), unix.AT_FDCWD, s.path("cur/named"), unix.AT_SYMLINK_FOLLOW)
}

func closing(s *scene) error {
	fd, err := unix.Dup(int(s.f.Fd())) // so that it can be tried again
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func copies(s *scene) error {
	from, err := os.Open(s.path("index"))
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	if _, err := s.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(s.f, from)
	return err
}

const rw = os.O_RDWR

var operations = []op{
	{name: "create", do: create("cur/new")},
	{name: "create meta", do: create("new")},
	{name: "create long", do: create("cur/" + long2)},
	{name: "first write", prep: create("cur/new"), do: write(10000, 0), data: true, twice: true},
	{name: "first write of meta", prep: create("new"), do: write(10000, 0), data: true, twice: true},
	{name: "fsync new", prep: with(create("cur/new"), write(10000, 0)), do: fsynced, twice: true},
	{name: "close", prep: with(create("cur/new"), write(10000, 0)), do: closing, twice: true},
	{name: "tmpfile", do: opened("cur", unix.O_TMPFILE|rw), twice: true},
	{name: "tmpfile written", prep: opened("cur", unix.O_TMPFILE|rw), do: write(5000, 0), twice: true},
	{name: "tmpfile named", prep: with(opened("cur", unix.O_TMPFILE|rw), write(5000, 0)), do: tmpfileNamed},
	{name: "overwrite", prep: opened("index", rw), do: write(5000, 100), data: true, twice: true},
	{name: "append", prep: opened("index", rw), do: write(5000, 9000), data: true, twice: true},
	{name: "write behind the end", prep: opened("small", rw), do: write(100, 20000), data: true, twice: true},
	{name: "open for append", do: opened("index", rw|os.O_APPEND), twice: true},
	{name: "change a message", prep: opened("cur/msg", rw), do: write(500, 4000), data: true, twice: true},
	{name: "append to a message", prep: opened("cur/msg", rw), do: write(500, 9000), data: true, twice: true},
	{name: "shrink", prep: opened("index", rw), do: truncate(4500), data: true, twice: true},
	{name: "shrink a message", prep: opened("cur/msg", rw), do: truncate(4500), data: true, twice: true},
	{name: "extend", prep: opened("index", rw), do: truncate(30000), data: true, twice: true},
	{name: "empty", prep: opened("index", rw), do: truncate(0), data: true, twice: true},
	{name: "open to empty", do: opened("index", rw|os.O_TRUNC), data: true, twice: true},
	{name: "fallocate", prep: opened("index", rw), do: func(s *scene) error { return unix.Fallocate(int(s.f.Fd()), 0, 0, 30000) }, data: true, twice: true},
	{name: "fsync", prep: with(opened("index", rw), write(5000, 100)), do: fsynced, twice: true},
	{name: "fdatasync", prep: with(opened("index", rw), write(5000, 9000)), do: func(s *scene) error { return unix.Fdatasync(int(s.f.Fd())) }, twice: true},
	{name: "fsync directory", prep: with(opened("cur", os.O_RDONLY)), do: fsynced, twice: true},
	{name: "copy", prep: create("cur/new"), do: copies, data: true, twice: true},
	{name: "read", do: reads("cur/msg", 9000), twice: true},
	{name: "read meta", do: reads("index", 9000), twice: true},
	{name: "read long", do: reads("cur/"+long, 300), twice: true},
	{name: "map", prep: opened("cur/msg", os.O_RDONLY), do: mapped, twice: true},
	{name: "mkdir", do: at(func(p string) error { return unix.Mkdir(p, 0o2750) }, "d")},
	{name: "mkdir long", do: at(func(p string) error { return unix.Mkdir(p, 0o700) }, long)},
	{name: "mkfifo", do: at(func(p string) error { return unix.Mkfifo(p, 0o600) }, "fifo")},
	{name: "symlink", do: at(func(p string) error { return unix.Symlink("../x", p) }, "s2")},
	{name: "symlink long", do: at(func(p string) error { return unix.Symlink("../x", p) }, long)},
	{name: "readlink", do: at(func(p string) error {
		target, err := os.Readlink(p)
		if err == nil && target != "keep" {
			err = fmt.Errorf("%w: %q", errWrong, target)
		}
		return err
	}, "symlink"), twice: true},
	{name: "link", do: func(s *scene) error { return unix.Link(s.path("cur/msg"), s.path("cur/link")) }},
	{name: "link long", do: func(s *scene) error { return unix.Link(s.path("cur/msg"), s.path("cur/"+long2)) }},
	{name: "unlink", do: at(unix.Unlink, "cur/msg")},
	{name: "unlink open", prep: opened("cur/msg", os.O_RDONLY), do: at(unix.Unlink, "cur/msg")},
	{name: "unlink long", do: at(unix.Unlink, "cur/"+long)},
	{name: "rmdir", do: at(unix.Rmdir, "sub")},
	{name: "rmdir long", do: at(unix.Rmdir, long2)},
	{name: "rename", do: rename("cur/msg", "cur/msg:2,S")},
	{name: "rename to long", do: rename("cur/msg", "cur/"+long2)},
	{name: "rename from long", do: rename("cur/"+long, "cur/short")},
	{name: "rename long to long", do: rename("cur/"+long, "cur/"+long2)},
	{name: "rename over", prep: with(opened("index", os.O_RDONLY)), do: rename("keep", "index")},
	{name: "rename over long", do: rename("cur/msg", "cur/"+long)},
	{name: "rename across", do: rename("cur/msg", "sub/msg")},
	{name: "rename directory", do: rename("cur", "ruc")},
	{name: "rename directory over", do: rename("cur", "sub")},
	{name: "rename directory over long", do: rename("cur", long2)},
	{name: "exchange", do: func(s *scene) error {
		return unix.Renameat2(unix.AT_FDCWD, s.path("keep"), unix.AT_FDCWD, s.path("index"), unix.RENAME_EXCHANGE)
	}},
	{name: "chmod", do: at(func(p string) error { return unix.Chmod(p, 0o640) }, "cur/msg"), twice: true},
	{name: "chown", do: at(func(p string) error { return unix.Chown(p, 8, 8) }, "cur/msg"), twice: true},
	{name: "utimes", do: at(func(p string) error { return unix.Utimes(p, []unix.Timeval{{Sec: 1}, {Sec: 2}}) }, "cur/msg"), twice: true},
	{name: "chmod directory", do: at(func(p string) error { return unix.Chmod(p, 0o750) }, "cur"), twice: true},
	{name: "setxattr", do: at(func(p string) error { return unix.Setxattr(p, "user.b", []byte("x"), 0) }, "cur/msg"), twice: true},
	{name: "getxattr", do: at(func(p string) error {
		b := make([]byte, 100)
		n, err := unix.Getxattr(p, "user.a", b)
		if err == nil && string(b[:n]) != "value" {
			err = fmt.Errorf("%w: %q", errWrong, b[:n])
		}
		return err
	}, "keep"), twice: true},
	{name: "listxattr", do: at(func(p string) error {
		n, err := unix.Listxattr(p, make([]byte, 100))
		if err == nil && n != len("user.a")+1 {
			err = fmt.Errorf("%w: %d bytes", errWrong, n)
		}
		return err
	}, "keep"), twice: true},
	{name: "removexattr", do: at(func(p string) error { return unix.Removexattr(p, "user.a") }, "keep")},
	{name: "list", do: list, twice: true},
	{name: "stat", do: at(func(p string) error { return unix.Lstat(p, new(unix.Stat_t)) }, "cur/msg"), twice: true},
	{name: "stat of nothing", do: at(func(p string) error {
		if err := unix.Lstat(p, new(unix.Stat_t)); err != unix.ENOENT {
			return err
		}
		return nil
	}, "cur/nothing"), twice: true},
	{name: "statfs", do: at(func(p string) error { return unix.Statfs(p, new(unix.Statfs_t)) }, ""), twice: true},
}
