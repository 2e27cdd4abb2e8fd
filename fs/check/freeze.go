package check

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Freeze gives a path under which the tree at store is seen read-only: the kernel refuses every change that goes through
// it, and reading through it leaves all times of access as they are, those of directories and symbolic links included.
// It is a mount that only this process sees (open_tree(2), mount_setattr(2); Linux 5.12, CAP_SYS_ADMIN); the store
// itself stays as it is mounted. Where the kernel refuses that, the path is store, and times of access of directories and
// links change as with any reader. Call thaw when the path is no longer used.
func Freeze(store string) (path string, thaw func(), err error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, store, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	switch err {
	case nil:
	case unix.EPERM, unix.ENOSYS, unix.EINVAL:
		return store, func() {}, nil
	default:
		return "", nil, fmt.Errorf("cannot read the store %s: %w", store, err)
	}
	attr := unix.MountAttr{
		Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOATIME,
		Attr_clr: unix.MOUNT_ATTR__ATIME,
	}
	path = fmt.Sprintf("/proc/self/fd/%d", fd)
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr)
	if err == nil {
		err = unix.Access(path, unix.F_OK) // a machine without /proc
	}
	if err != nil {
		_ = unix.Close(fd)
		return store, func() {}, nil
	}
	return path, func() { _ = unix.Close(fd) }, nil
}
