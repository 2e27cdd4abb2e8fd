package records

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// openDirAt opens the directory name, itself and not what a symbolic link points to. path is for messages.
func openDirAt(at int, name, path string) (*os.File, error) {
	fd, err := openAt(at, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// readAll reads a file from its beginning, and one byte more than limit if there is more: it may grow meanwhile.
func readAll(f *os.File, limit int) ([]byte, error) {
	return io.ReadAll(io.NewSectionReader(f, 0, int64(limit)+1))
}

// readAt reads a regular file of at most limit bytes. Anything else in its place is ErrCorrupt, as is a device that
// cannot read it; other failures are those of the system call.
func readAt(dir *os.File, name string, limit int) ([]byte, error) {
	// O_NONBLOCK: a FIFO in place of a record must not hang us. O_NOATIME: what only looks changes nothing in the store;
	// it is refused to who neither owns the file nor has CAP_FOWNER.
	fd, err := openAt(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOATIME)
	if errors.Is(err, unix.EPERM) {
		fd, err = openAt(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NONBLOCK)
	}
	switch {
	case errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO):
		return nil, corrupt("it is not a regular file")
	case err != nil:
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	var st unix.Stat_t
	if err := again(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return nil, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, corrupt("it is not a regular file")
	}
	if st.Size > int64(limit) {
		return nil, corrupt("it has more than %d bytes", limit)
	}
	b, err := readAll(f, limit)
	if errors.Is(err, unix.EIO) { // once more: what follows may be that an older version takes its place
		b, err = readAll(f, limit)
	}
	switch {
	case errors.Is(err, unix.EIO):
		return nil, corrupt("the device cannot read it")
	case err != nil:
		return nil, err
	case len(b) > limit:
		return nil, corrupt("it has more than %d bytes", limit)
	}
	return b, nil
}

// replace writes a file so that a crash at any step leaves the old content or the new one, and never a part: temporary
// file, fsync, rename, fsync of the directory (FORMAT.md K13). The caller holds the directory's lock, therefore the
// temporary name can be a fixed one, and nothing piles up after crashes.
func (d *Dir) replace(dir *os.File, name string, content []byte) error {
	temp := tempOf(name)
	err := d.writeTemp(dir, temp, content)
	if err == nil {
		err = d.step("rename", name, func() error {
			return unix.Renameat(int(dir.Fd()), temp, int(dir.Fd()), name)
		})
	}
	if err != nil {
		_ = unlinkAt(dir, temp)
		return fmt.Errorf("cannot write %s in %s: %w", name, dir.Name(), err)
	}
	if err := d.step("sync directory", name, dir.Sync); err != nil {
		return fmt.Errorf("cannot make %s in %s durable: %w", name, dir.Name(), err)
	}
	return nil
}

func (d *Dir) writeTemp(dir *os.File, temp string, content []byte) error {
	if err := unlinkAt(dir, temp); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	var f *os.File
	err := d.step("create", temp, func() error {
		fd, err := openAt(int(dir.Fd()), temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
		if err == nil {
			f = os.NewFile(uintptr(fd), temp)
		}
		return err
	})
	if err != nil {
		return err
	}
	err = d.step("write", temp, func() error {
		_, err := f.WriteAt(content, 0) // the same wherever a step before was interrupted
		return err
	})
	if err == nil {
		err = d.step("sync", temp, f.Sync)
	}
	return errors.Join(err, f.Close())
}

// step runs one step of a write, again if a signal interrupts it: every step can be.
func (d *Dir) step(step, name string, f func() error) error {
	return again(func() error {
		if d.trace != nil {
			if err := d.trace(step, name); err != nil {
				return err
			}
		}
		return f()
	})
}

// mkdir makes a directory durable, or finds it there.
func (d *Dir) mkdir(dir *os.File, name string) error {
	err := d.step("mkdir", name, func() error { return unix.Mkdirat(int(dir.Fd()), name, 0o700) })
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("cannot make %s in %s: %w", name, dir.Name(), err)
	}
	// Also when it was there: whoever made it may not have come to this.
	if err := d.step("sync directory", name, dir.Sync); err != nil {
		return fmt.Errorf("cannot make %s in %s durable: %w", name, dir.Name(), err)
	}
	return nil
}

// lockDir takes the exclusive lock of a directory, waiting for it, and returns what releases it. The lock lies on a file
// in the directory rather than on the directory: NFS refuses an exclusive flock(2) on what is not open for writing.
func lockDir(dir *os.File) (func(), error) {
	fd, err := openAt(int(dir.Fd()), lockName, unix.O_RDWR|unix.O_CREAT|unix.O_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s in %s: %w", lockName, dir.Name(), err)
	}
	f := os.NewFile(uintptr(fd), lockName)
	err = again(func() error { return unix.Flock(fd, unix.LOCK_EX) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot lock %s in %s: %w", lockName, dir.Name(), err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
