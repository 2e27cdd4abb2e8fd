package powercut

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// lower is a filesystem below the store.
type lower struct {
	name  string
	size  int64
	mkfs  []string // the device comes last
	mount string   // data for mount(2)
	fsck  []string // changes nothing; the device comes last
	share int      // how many of 100 points it gets in the short form
}

// lowers are the filesystems that the kernel of this machine has.
func lowers(t testing.TB) []lower {
	t.Helper()
	b, err := os.ReadFile("/proc/filesystems")
	must(t, err)
	var have []lower
	for _, l := range []lower{
		{name: "ext4", size: 256 << 20, share: 100, fsck: []string{"e2fsck", "-fn"},
			mkfs: []string{"mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", "-O", "ea_inode", "-m", "0"}},
		{name: "xfs", size: 320 << 20, share: 30, mkfs: []string{"mkfs.xfs", "-q", "-f", "-K"}, fsck: []string{"xfs_repair", "-n"}},
		{name: "btrfs", size: 320 << 20, share: 30, mkfs: []string{"mkfs.btrfs", "-q", "-f", "-K"}, fsck: []string{"btrfs", "check", "--readonly"}},
	} {
		if bytes.Contains(b, []byte("\t"+l.name+"\n")) {
			have = append(have, l)
		} else {
			t.Logf("%s: this kernel has no such filesystem (/proc/filesystems): the list of the tests is without it", l.name)
		}
	}
	if len(have) == 0 || have[0].name != "ext4" {
		t.Fatal("this kernel has no ext4")
	}
	return have
}

// mountOn mounts the filesystem of a device on a directory.
func (l lower) mountOn(t testing.TB, device, dir string) {
	t.Helper()
	if err := unix.Mount(device, dir, l.name, unix.MS_NODEV|unix.MS_NOSUID, l.mount); err != nil {
		t.Fatalf("mount %s: %v", l.name, err)
	}
}

func unmount(t testing.TB, dir string) {
	t.Helper()
	if err := unix.Unmount(dir, 0); err != nil {
		t.Errorf("cannot unmount %s: %v", dir, err)
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	}
}
