package records

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// The runtime of Go sends signals to its own threads all the time, and a filesystem that asks somebody else, as FUSE and
// network filesystems do, may answer any call with EINTR. Package os repeats its calls for that reason; these are ours.

// again repeats a call that a signal interrupted.
func again(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// openAt opens name itself and not what a symbolic link points to. What it creates has mode 0600.
func openAt(at int, name string, flags int) (fd int, err error) {
	err = again(func() (err error) {
		fd, err = unix.Openat(at, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	return fd, err
}

// unlinkAt removes a name that is no directory's.
func unlinkAt(dir *os.File, name string) error {
	return again(func() error { return unix.Unlinkat(int(dir.Fd()), name, 0) })
}
