package medium

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	t.Parallel()
	m, err := Of("/dev/shm")
	if err != nil || m.Kind != Memory || m.Type != "tmpfs" || !strings.Contains(m.String(), "memory of this machine (tmpfs") {
		t.Errorf("%+v (%v), %v", m, m, err)
	}
	if m, err = Of("/proc/self"); err != nil || m.Kind != Fixed || m.Point != "/proc" {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := Of("/does/not/exist"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestKindOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		fstype, source string
		want           Kind
	}{
		{"tmpfs", "x", Memory}, {"nfs4", "host:/a", Network}, {"cifs", "//h/a", Network}, {"fuse.sshfs", "h:", Network},
		{"fuse.mailcryptfs", "/a", Fixed}, {"ext4", "/dev/none", Fixed}, {"zfs", "pool/a", Fixed}, {"overlay", "overlay", Fixed},
	} {
		if got := kindOf(tt.fstype, tt.source, "/sys/dev/block"); got != tt.want {
			t.Errorf("%s %s: %v, want %v", tt.fstype, tt.source, got, tt.want)
		}
	}
}

// TestRemovable builds what the kernel shows of a stick, of its partition, and of an encrypted volume on it.
func TestRemovable(t *testing.T) {
	t.Parallel()
	sys := t.TempDir()
	make := func(name, flag string) {
		t.Helper()
		dir := filepath.Join(sys, name)
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "removable"), []byte(flag+"\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	stack := func(name string, on ...string) {
		t.Helper()
		make(name, "0")
		for _, s := range on {
			dir := filepath.Join(sys, name, "slaves")
			if err := errors.Join(os.MkdirAll(dir, 0o755), os.Symlink(filepath.Join(sys, s), filepath.Join(dir, filepath.Base(s)))); err != nil {
				t.Fatal(err)
			}
		}
	}
	make("card", "1")
	if err := os.Mkdir(filepath.Join(sys, "card/card1"), 0o755); err != nil {
		t.Fatal(err)
	}
	make("disk", "0")
	make("usb1/stick", "0")
	stack("crypt", "card/card1")
	stack("mirror", "card", "disk")
	for name, want := range map[string]bool{
		"card": true, "card/card1": true, "disk": false, "usb1/stick": true, "crypt": true, "mirror": false, "none": false,
	} {
		if got := removable(filepath.Join(sys, name), 0); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
