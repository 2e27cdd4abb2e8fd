package control

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// The lock file beside the socket says whose the configuration is, from before a daemon has a socket until it has closed
// everything: the socket alone is too late at the start, and gone too early at the end. Nothing is written to it, and it
// stays. Locks are those of the open file (F_OFD_SETLK, fcntl(2)), so the kernel drops them with the process.
const (
	lockSuffix = ".lock"
	startByte  = 0 // held by whoever looks at, or replaces, socket and lock file
	lifeByte   = 1 // held by the daemon
)

// errHeld says that another process holds the lock, but does not answer: it is starting or ending.
var errHeld = errors.New("the lock of the control socket is held")

// openClaim opens the lock file of the socket and takes its start byte.
func openClaim(socket string) (*os.File, error) {
	path := socket + lockSuffix
	for {
		// 0600: a lock that anybody could take would let anybody keep the daemon from starting.
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, fmt.Errorf("cannot open the lock of the control socket: %w", err)
		}
		free, err := tryLock(f, startByte)
		if err == nil && !free {
			err = errHeld
		}
		current := false
		if err == nil {
			current, err = isAt(f, path)
		}
		switch {
		case err != nil:
			return nil, errors.Join(err, f.Close())
		case current:
			return f, nil
		}
		// It was replaced between.
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
}

// replaceClaim puts a new lock file in the place of one whose life byte a killed daemon holds that cannot end. The caller
// holds the start byte of the old one, and gets both of the new one.
func replaceClaim(old *os.File, socket string) (*os.File, error) {
	if err := os.Remove(old.Name()); err != nil {
		return nil, fmt.Errorf("cannot replace the lock of a killed daemon: %w", err)
	}
	f, err := openClaim(socket)
	if err != nil {
		return nil, err
	}
	free, err := tryLock(f, lifeByte)
	if err == nil && !free {
		err = errHeld
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, old.Close()
}

// isAt reports whether an open file is the one at a path.
func isAt(f *os.File, path string) (bool, error) {
	open, err := f.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(open, there), err
}

// tryLock takes one byte of the file for this open file, and reports false if another one holds it.
func tryLock(f *os.File, at int64) (bool, error) {
	err := setLock(f, unix.F_WRLCK, at)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	return err == nil, err
}

func unlock(f *os.File, at int64) error { return setLock(f, unix.F_UNLCK, at) }

func setLock(f *os.File, kind int16, at int64) error {
	l := unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: at, Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l); err != nil {
		return fmt.Errorf("cannot lock %s: %w", f.Name(), err)
	}
	return nil
}
