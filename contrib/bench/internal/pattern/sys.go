package pattern

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// open is open(2) with O_CLOEXEC, again when a signal interrupts it.
func open(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o600)
		if !errors.Is(err, unix.EINTR) {
			return fd, named("open", path, err)
		}
	}
}

// named gives an error of a system call its call and path.
func named(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: path, Err: err}
}

// write is one write(2) that must take all of data.
func write(fd int, data []byte) error {
	n, err := unix.Write(fd, data)
	if err == nil && n != len(data) {
		err = io.ErrShortWrite
	}
	return named("write", fmt.Sprint("descriptor ", fd), err)
}

// closing closes fd and returns err, or else the error of close.
func closing(fd int, err error) error {
	if cerr := unix.Close(fd); err == nil {
		err = named("close", fmt.Sprint("descriptor ", fd), cerr)
	}
	return err
}

// create makes a file that must not exist, in one write.
func create(path string, data []byte, sync bool) error {
	fd, err := open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_TRUNC)
	if err != nil {
		return err
	}
	err = write(fd, data)
	if err == nil && sync {
		err = named("fsync", path, unix.Fsync(fd))
	}
	return closing(fd, err)
}

// readOnce opens a file, reads it with one read(2) that must return want bytes, and closes it.
func readOnce(path string, buf []byte, want int) error {
	fd, err := open(path, unix.O_RDONLY)
	if err != nil {
		return err
	}
	n, err := unix.Read(fd, buf[:want])
	if err == nil && n != want {
		err = io.ErrUnexpectedEOF
	}
	return closing(fd, named("read", path, err))
}

func stat(path string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	return st, named("lstat", path, err)
}

func rename(from, to string) error { return named("rename", from, unix.Rename(from, to)) }
func link(from, to string) error   { return named("link", to, unix.Link(from, to)) }
func unlink(path string) error     { return named("unlink", path, unix.Unlink(path)) }
