package memdir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEnsure(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root: run contrib/test.sh with sudo")
	}
	dir := filepath.Join(t.TempDir(), "run", "keyring")
	_, err := Ensure(dir)
	if err != nil {
		t.Fatal(err)
	}
	if in, err := InMemory(dir); err != nil || !in {
		t.Errorf("InMemory = %v, %v", in, err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	entry := filepath.Join(dir, "alice")
	if err := os.WriteFile(entry, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if mounted, err := Ensure(dir); mounted || err != nil {
		t.Errorf("second time: %v, %v", mounted, err)
	}
	if _, err := os.Stat(entry); err != nil {
		t.Errorf("an entry was hidden: %v", err)
	}
	// Only if Ensure mounted it: the temporary directory may lie on tmpfs itself.
	if err := unix.Unmount(dir, 0); err != nil && err != unix.EINVAL {
		t.Error(err)
	}
}

// TestEnsureLink refuses a link before anything is mounted through it.
func TestEnsureLink(t *testing.T) {
	t.Parallel()
	target := t.TempDir()
	dir := filepath.Join(t.TempDir(), "keyring")
	if err := os.Symlink(target, dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, dir + "/"} {
		mounted, err := Ensure(name)
		if mounted || !errors.Is(err, ErrNoDir) {
			t.Errorf("%s: %v, %v", name, mounted, err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), target) {
		t.Errorf("something was mounted on %s (%v)", target, err)
	}
}
