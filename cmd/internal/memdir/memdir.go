// Package memdir makes sure that the keyring directory lies in memory: its entries open users' mail and must never
// reach a disk.
package memdir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrNoDir says that something else than a directory has the name of the keyring directory.
var ErrNoDir = errors.New("the keyring directory is a symbolic link or a file")

// options of the tmpfs that Ensure mounts. An entry takes one page and one inode; the limits keep a mistake from
// filling the memory.
const options = "mode=0700,uid=0,gid=0,size=256m,nr_inodes=200k"

// Ensure makes dir, with mode 0700, and mounts a tmpfs on it unless it lies on tmpfs or ramfs already. It reports whether
// it mounted one. dir itself must be no symbolic link: what is mounted through one would hide the directory that it leads
// to, which whoever made the link has chosen. Where the kernel knows how, that one is never swapped out (Linux 6.4, option noswap).
func Ensure(dir string) (mounted bool, err error) {
	dir = filepath.Clean(dir) // a slash at the end would follow a link
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return false, fmt.Errorf("cannot make the directory above the keyring: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return false, fmt.Errorf("cannot make the keyring directory: %w", err)
	}
	if info, err := os.Lstat(dir); err != nil {
		return false, fmt.Errorf("cannot look at the keyring directory: %w", err)
	} else if !info.IsDir() {
		return false, fmt.Errorf("%w: %s", ErrNoDir, dir)
	}
	in, err := InMemory(dir)
	if err != nil || in {
		return false, err
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	err = unix.Mount("mailcryptfs-keyring", dir, "tmpfs", flags, options+",noswap")
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("mailcryptfs-keyring", dir, "tmpfs", flags, options)
	}
	if err != nil {
		return false, fmt.Errorf("cannot mount a tmpfs on the keyring directory %s: %w", dir, err)
	}
	return true, nil
}

// InMemory reports whether dir lies on tmpfs or ramfs (statfs(2)).
func InMemory(dir string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false, fmt.Errorf("cannot look at the keyring directory %s: %w", dir, err)
	}
	return st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC, nil
}
