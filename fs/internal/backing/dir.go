// Package backing reaches the encrypted tree on the lower filesystem. All calls
// are relative to a descriptor of the directory that holds the entry, take one
// path component, and never follow a symbolic link: no change of the tree above
// can redirect them, and no path can grow beyond PATH_MAX. Errors are those of
// the kernel (unix.Errno) with the name of the call.
package backing

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Dir is an open directory of the store. It is counted: Retain and Release
// pair up, and the descriptor is closed with the last release. All methods are
// safe for concurrent use while the caller holds a count.
type Dir struct {
	fd   int
	refs atomic.Int32
}

const dirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// OpenRoot opens the root of a store by its path, with a count of one.
func OpenRoot(path string) (*Dir, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open store %s: %w", path, err)
	}
	return newDir(fd), nil
}

func newDir(fd int) *Dir {
	d := &Dir{fd: fd}
	d.refs.Store(1)
	return d
}

// OpenDir opens the subdirectory name ("." for another descriptor of d itself),
// with a count of one.
func (d *Dir) OpenDir(name string) (*Dir, error) {
	fd, err := openat(d.fd, name, dirFlags, 0)
	if err != nil {
		return nil, err
	}
	return newDir(fd), nil
}

// Retain adds a count and returns d.
func (d *Dir) Retain() *Dir {
	d.refs.Add(1)
	return d
}

// Release gives back a count and closes the descriptor with the last one.
func (d *Dir) Release() {
	if d.refs.Add(-1) == 0 {
		_ = unix.Close(d.fd)
	}
}

// Sync makes the entries of the directory durable (fsync(2)).
func (d *Dir) Sync() error { return again("fsync", func() error { return unix.Fsync(d.fd) }) }

// SyncAll makes everything durable that was written to the filesystem of d, by
// whomever (syncfs(2)).
func (d *Dir) SyncAll() error { return again("syncfs", func() error { return unix.Syncfs(d.fd) }) }

// Open opens the regular file name with the given open(2) flags.
func (d *Dir) Open(name string, flags int) (*File, error) {
	fd, err := openat(d.fd, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return &File{fd: fd}, nil
}

// Create makes the regular file name, which must not exist, with owner and mode,
// and opens it for reading and writing. After a crash in between, an empty file
// owned by root is left.
func (d *Dir) Create(name string, mode uint32, o Owner) (*File, error) {
	fd, err := openat(d.fd, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode&0o7777)
	if err != nil {
		return nil, err
	}
	f := &File{fd: fd}
	if err := f.own(mode, o); err != nil {
		_ = f.Close()
		_ = d.Unlink(name)
		return nil, err
	}
	return f, nil
}

// Tmpfile makes a regular file without a name in d.
func (d *Dir) Tmpfile(mode uint32, o Owner) (*File, error) {
	fd, err := openat(d.fd, ".", unix.O_RDWR|unix.O_TMPFILE|unix.O_CLOEXEC, mode&0o7777)
	if err != nil {
		return nil, err
	}
	f := &File{fd: fd}
	if err := f.own(mode, o); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Owner is the user and group id of a new entry.
type Owner struct{ UID, GID uint32 }

// Mkdir makes the directory name with owner and mode.
func (d *Dir) Mkdir(name string, mode uint32, o Owner) error {
	return d.make(name, mode, o, unix.AT_REMOVEDIR, func() error { return unix.Mkdirat(d.fd, name, mode&0o7777) })
}

// Mknod makes the FIFO or socket name with owner and mode.
func (d *Dir) Mknod(name string, mode uint32, o Owner) error {
	return d.make(name, mode, o, 0, func() error { return unix.Mknodat(d.fd, name, mode, 0) })
}

// Symlink makes the symbolic link name to target with owner.
func (d *Dir) Symlink(name, target string, o Owner) error {
	err := again("symlinkat", func() error { return unix.Symlinkat(target, d.fd, name) })
	if err != nil {
		return err
	}
	return d.undo(name, 0, d.Chown(name, o))
}

func (d *Dir) make(name string, mode uint32, o Owner, rm int, call func() error) error {
	if err := again("mknodat", call); err != nil {
		return err
	}
	err := d.Chown(name, o)
	if err == nil && mode&0o6000 != 0 {
		err = d.Chmod(name, mode) // chown(2) clears these bits
	}
	return d.undo(name, rm, err)
}

func (d *Dir) undo(name string, rm int, err error) error {
	if err != nil {
		_ = unix.Unlinkat(d.fd, name, rm)
	}
	return err
}

// Chown sets the owner of the entry name itself.
func (d *Dir) Chown(name string, o Owner) error {
	return again("fchownat", func() error {
		return unix.Fchownat(d.fd, name, int(o.UID), int(o.GID), unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Chmod sets the mode of the entry name, which must not be a symbolic link.
func (d *Dir) Chmod(name string, mode uint32) error {
	return again("fchmodat", func() error { return unix.Fchmodat(d.fd, name, mode&0o7777, 0) })
}

// Utimes sets the times of the entry name itself.
func (d *Dir) Utimes(name string, t Times) error {
	return again("utimensat", func() error {
		return unix.UtimesNanoAt(d.fd, name, t[:], unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Readlink returns the stored target of the symbolic link name.
func (d *Dir) Readlink(name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	var n int
	err := again("readlinkat", func() (err error) {
		n, err = unix.Readlinkat(d.fd, name, buf)
		return err
	})
	return string(buf[:max(0, n)]), err
}

// Unlink removes the entry name, which must not be a directory.
func (d *Dir) Unlink(name string) error {
	return again("unlinkat", func() error { return unix.Unlinkat(d.fd, name, 0) })
}

// Rmdir removes the empty directory name.
func (d *Dir) Rmdir(name string) error {
	return again("rmdir", func() error { return unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR) })
}

// Rename moves name to newName in to, with the flags of renameat2(2).
func (d *Dir) Rename(name string, to *Dir, newName string, flags uint32) error {
	return again("renameat2", func() error { return unix.Renameat2(d.fd, name, to.fd, newName, uint(flags)) })
}

// Link makes newName in to another name of name.
func (d *Dir) Link(name string, to *Dir, newName string) error {
	return again("linkat", func() error { return unix.Linkat(d.fd, name, to.fd, newName, 0) })
}

// Statfs returns what statfs(2) says of the filesystem of d.
func (d *Dir) Statfs() (unix.Statfs_t, error) {
	var s unix.Statfs_t
	err := again("fstatfs", func() error { return unix.Fstatfs(d.fd, &s) })
	return s, err
}

// Fd returns the descriptor, valid while the caller holds a count.
func (d *Dir) Fd() int { return d.fd }

func openat(dirfd int, name string, flags int, mode uint32) (int, error) {
	var fd int
	err := again("openat", func() (err error) {
		fd, err = unix.Openat(dirfd, name, flags, mode)
		return err
	})
	return fd, err
}

// again repeats a call that a signal interrupted and puts its name before an error.
func again(call string, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return fmt.Errorf("%s: %w", call, err)
		}
	}
}
