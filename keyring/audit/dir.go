package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// How long another process that writes is waited for.
const (
	lockWait  = 3 * time.Second  // by an event: a login must not hang
	closeWait = 15 * time.Second // by Close: a daemon that starts again waits for that
	lockPause = 5 * time.Millisecond
)

// openDir opens the directory of the log in a store; with create, it makes it. The path is resolved through no symbolic
// link below the store. It returns os.ErrNotExist if there is no log, or no store.
func openDir(store string, create bool) (*os.File, error) {
	path := filepath.Join(store, recordsName)
	records, err := openAt(unix.AT_FDCWD, path, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer records.Close()
	path = filepath.Join(path, dirName)
	dir, err := openAt(int(records.Fd()), dirName, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if !create || !errors.Is(err, os.ErrNotExist) {
		return dir, err
	}
	if err := unix.Mkdirat(int(records.Fd()), dirName, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &os.PathError{Op: "mkdir", Path: path, Err: err}
	}
	if err := records.Sync(); err != nil {
		return nil, err
	}
	return openAt(int(records.Fd()), dirName, path, unix.O_RDONLY|unix.O_DIRECTORY)
}

// openFile opens a regular file of the log; create in flags makes it, mode 0600.
func openFile(dir *os.File, name string, flags int) (*os.File, error) {
	// O_NONBLOCK: a FIFO in place of a file must not hang us.
	f, err := openAt(int(dir.Fd()), name, filepath.Join(dir.Name(), name), flags|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", f.Name())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func openAt(at int, name, path string, flags int) (*os.File, error) {
	for {
		fd, err := unix.Openat(at, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), path), nil
		case !errors.Is(err, unix.EINTR):
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// lockFile takes the exclusive lock of an open file; closing the file releases it. It returns ErrBusy after the wait.
func lockFile(f *os.File, wait time.Duration) error {
	for end := time.Now().Add(wait); ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
		case !errors.Is(err, unix.EWOULDBLOCK):
			return fmt.Errorf("cannot lock %s: %w", f.Name(), err)
		case time.Now().After(end):
			return fmt.Errorf("%s: %w", f.Name(), ErrBusy)
		default:
			// flock(2) with a time limit would need a signal; whoever holds the lock holds it for a write and an fsync.
			time.Sleep(lockPause)
		}
	}
}

// segments lists the segments in the directory, sorted by host and month, and the names of other files.
func segments(dir *os.File) (all []segment, heads, others []string, err error) {
	// Another description: the position of the caller's is not moved.
	again, err := openAt(int(dir.Fd()), ".", dir.Name(), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, nil, nil, err
	}
	defer again.Close()
	names, err := again.Readdirnames(-1)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, name := range names {
		if s, ok := parseSegment(name); ok {
			all = append(all, s)
		} else if host, ok := parseHead(name); ok {
			heads = append(heads, host)
		} else {
			others = append(others, name)
		}
	}
	sortSegments(all)
	return all, heads, others, nil
}
