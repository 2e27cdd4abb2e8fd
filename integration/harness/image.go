package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Dir makes a directory with a short path, which everybody may pass through. It is removed when the test ends.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(os.Getenv(envInside), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("cannot clean up: %v", err)
		}
	})
	return dir
}

// ImageDir is a directory on a mount of its own for the images of filesystems that tests mount below [Dir], and for the
// servers of such images: neither mount is then below the other.
func ImageDir() string { return imageDir(os.Getenv(envInside)) }

// Image says what filesystem a directory of the tests shall be.
type Image struct {
	FS  string // "ext4" (default, with a journal) or "btrfs"
	MiB int    // size, 512 when 0; btrfs needs 128
}

// Mounted makes a filesystem in a file and mounts it. It returns the mount point, and the file with every byte that the
// filesystem wrote. Both are gone when the test ends.
func (i Image) Mounted(t testing.TB) (dir, file string) {
	t.Helper()
	if i.FS == "" {
		i.FS = "ext4"
	}
	if i.MiB == 0 {
		i.MiB = 512
	}
	dir = filepath.Join(Dir(t), "fs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.CreateTemp(imageDir(os.Getenv(envInside)), "")
	if err != nil {
		t.Fatal(err)
	}
	file = f.Name()
	t.Cleanup(func() {
		if err := os.Remove(file); err != nil {
			t.Errorf("cannot clean up: %v", err)
		}
	})
	if err := f.Truncate(int64(i.MiB) << 20); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	mkfs := map[string][]string{
		// ea_inode: extended attributes of any size. lazy_itable_init: mkfs need not write what the kernel would not read.
		"ext4":  {"mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,nodiscard", "-O", "ea_inode", "-m", "0", "-i", "4096", file},
		"btrfs": {"mkfs.btrfs", "-q", file},
	}[i.FS]
	Run(t, mkfs...)
	Run(t, "mount", "-t", i.FS, "-o", "loop,nodev,nosuid", file, dir)
	t.Cleanup(func() {
		if err := unmountIdle(dir); err != nil {
			t.Errorf("cannot unmount a test image: %v", err)
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	return dir, file
}

// unmountIdle unmounts a filesystem as soon as nobody uses it, which is to be within half a minute: a server whose master has
// ended may have processes that are about to.
func unmountIdle(dir string) error {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err := unix.Unmount(dir, 0); err != unix.EBUSY || time.Now().After(deadline) {
			return err
		}
	}
}

// Run runs a program of the system and fails the test unless it ends well.
func Run(t testing.TB, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v: %s", argv, err, out)
	}
	return string(out)
}
