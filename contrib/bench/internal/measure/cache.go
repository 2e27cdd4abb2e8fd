package measure

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Settle writes back what is dirty on the filesystem that the path is on, so that no batch pays for the one before.
func Settle(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(dir.Fd())))
}

// DropCaches empties the page, dentry and inode caches of all filesystems, FUSE mounts and the one beneath them included.
// It does so twice: inodes of the lower filesystem that a FUSE daemon held for cached inodes of its mount can go only
// after the daemon was told to forget those.
func DropCaches(lower string) error {
	for range 2 {
		if err := Settle(lower); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join("/proc/sys/vm", "drop_caches"), []byte("3"), 0); err != nil {
			return err
		}
	}
	return nil
}
