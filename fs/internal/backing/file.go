package backing

import (
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// File is an open regular file of the store. All methods but Close are safe for
// concurrent use.
type File struct{ fd int }

// Times are the access and modification times for utimensat(2).
type Times [2]unix.Timespec

// Close closes the descriptor. The File must not be used afterwards.
func (f *File) Close() error { return unix.Close(f.fd) }

// Flush hands over what a network filesystem holds back until close(2), and returns
// what only a close tells there (a quota that is used up).
func (f *File) Flush() error {
	fd, err := unix.FcntlInt(uintptr(f.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("fcntl: %w", err)
	}
	if err := unix.Close(fd); err != nil && err != unix.EINTR {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// LinkTo gives the file, which has no name, the name in d.
func (f *File) LinkTo(d *Dir, name string) error {
	return again("linkat", func() error { return unix.Linkat(f.fd, "", d.fd, name, unix.AT_EMPTY_PATH) })
}

// Fd returns the descriptor, valid until Close.
func (f *File) Fd() int { return f.fd }

// ReadAt reads len(p) bytes at stored offset off, fewer only at the end of the
// file, where it returns io.EOF.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Pread(f.fd, p[done:], off+int64(done))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return done, fmt.Errorf("pread: %w", err)
		case n == 0:
			return done, io.EOF
		default:
			done += n
		}
	}
	return done, nil
}

// WriteAt writes all of p at stored offset off. On error it says how many bytes
// were written.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Pwrite(f.fd, p[done:], off+int64(done))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return done, fmt.Errorf("pwrite: %w", err)
		case n == 0:
			return done, fmt.Errorf("pwrite: %w", unix.EIO)
		default:
			done += n
		}
	}
	return done, nil
}

// Truncate sets the stored size in bytes.
func (f *File) Truncate(size int64) error {
	return again("ftruncate", func() error { return unix.Ftruncate(f.fd, size) })
}

// Sync makes the content durable, with all metadata or with what reading the
// content needs (fsync(2), fdatasync(2)).
func (f *File) Sync(dataOnly bool) error {
	if dataOnly {
		return again("fdatasync", func() error { return unix.Fdatasync(f.fd) })
	}
	return again("fsync", func() error { return unix.Fsync(f.fd) })
}

// Allocate reserves space without changing the stored size (fallocate(2) with
// FALLOC_FL_KEEP_SIZE).
func (f *File) Allocate(off, length int64) error {
	return again("fallocate", func() error { return unix.Fallocate(f.fd, unix.FALLOC_FL_KEEP_SIZE, off, length) })
}

// Chown sets the owner.
func (f *File) Chown(o Owner) error {
	return again("fchown", func() error { return unix.Fchown(f.fd, int(o.UID), int(o.GID)) })
}

// Chmod sets the mode.
func (f *File) Chmod(mode uint32) error {
	return again("fchmod", func() error { return unix.Fchmod(f.fd, mode&0o7777) })
}

// Utimes sets the times.
func (f *File) Utimes(t Times) error {
	return again("utimensat", func() error { return futimens(f.fd, &t) })
}

// own gives a new file its owner, and again the mode bits that chown(2) clears.
// A new file of the daemon belongs to root already.
func (f *File) own(mode uint32, o Owner) error {
	if o != (Owner{}) {
		if err := f.Chown(o); err != nil {
			return err
		}
	}
	if mode&0o6000 != 0 {
		return f.Chmod(mode)
	}
	return nil
}
