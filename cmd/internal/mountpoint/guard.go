package mountpoint

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Errors of Guard on which callers branch.
var (
	// ErrNotEmpty says that the bare directory holds files, which a mount would hide.
	ErrNotEmpty = errors.New("the mount point is not empty")
	// ErrNotDirectory says that something else lies at the path.
	ErrNotDirectory = errors.New("the mount point is not a directory")
)

// Guarded says what Guard could do.
type Guarded struct {
	Immutable bool // the file system keeps even root from writing into the bare directory
}

// Guard makes path a safe mount point: a directory that exists, is empty, belongs to root, has mode 000, and is
// immutable (ioctl_iflags(2)) where the file system and our capabilities allow it. So mail that arrives while nothing is
// mounted is deferred, and never lands in the clear beneath the view. Nothing may be mounted there (see Clear).
func Guard(path string) (Guarded, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return Guarded{}, fmt.Errorf("cannot make the directory above the mount point: %w", err)
	}
	if err := os.Mkdir(path, 0); err != nil && !errors.Is(err, os.ErrExist) {
		return Guarded{}, fmt.Errorf("cannot make the mount point: %w", err)
	}
	d, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return Guarded{}, fmt.Errorf("%s: %w", path, ErrNotDirectory)
	}
	if err != nil {
		return Guarded{}, fmt.Errorf("cannot open the mount point: %w", err)
	}
	defer d.Close()
	if names, err := d.Readdirnames(1); len(names) > 0 {
		return Guarded{}, fmt.Errorf("%s: %w: it holds %q", path, ErrNotEmpty, names[0])
	} else if err != nil && !errors.Is(err, io.EOF) {
		return Guarded{}, fmt.Errorf("cannot list the mount point: %w", err)
	}
	if err := ownAndClose(d); err != nil {
		return Guarded{}, err
	}
	return Guarded{Immutable: setImmutable(d, true) == nil}, nil
}

// ownAndClose gives the directory to root and takes every right from it. A directory that is so already is left alone:
// once it is immutable it could not be changed.
func ownAndClose(d *os.File) error {
	info, err := d.Stat()
	if err != nil {
		return fmt.Errorf("cannot look at the mount point: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if ok && (st.Uid != 0 || st.Gid != 0) {
		if err := d.Chown(0, 0); err != nil {
			return fmt.Errorf("cannot give the mount point to root: %w", err)
		}
	}
	if info.Mode().Perm() != 0 {
		if err := d.Chmod(0); err != nil {
			return fmt.Errorf("cannot close the mount point: %w", err)
		}
	}
	return nil
}

// Release takes the immutable attribute from a bare mount point, so that it can be removed or moved. A path that does
// not exist is fine.
func Release(path string) error {
	d, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot open the mount point: %w", err)
	}
	defer d.Close()
	if err := setImmutable(d, false); err != nil && !errors.Is(err, unix.ENOTTY) && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("cannot make the mount point changeable: %w", err)
	}
	return nil
}

// immutableFlag is FS_IMMUTABLE_FL of linux/fs.h.
const immutableFlag = 0x10

func setImmutable(d *os.File, on bool) error {
	fd := int(d.Fd())
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil {
		return err
	}
	want := flags &^ immutableFlag
	if on {
		want = flags | immutableFlag
	}
	if want == flags {
		return nil
	}
	return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(want))
}
