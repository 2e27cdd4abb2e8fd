package check

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFreeze(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/file", []byte("content"), 0o600))
	path, thaw, err := Freeze(dir)
	must(t, err)
	defer thaw()
	if b, err := os.ReadFile(path + "/file"); err != nil || string(b) != "content" {
		t.Errorf("got %q, %v", b, err)
	}
	for _, err := range []error{
		os.WriteFile(path+"/new", nil, 0o600), os.Remove(path + "/file"), os.Chmod(path+"/file", 0o644), os.WriteFile(path+"/file", nil, 0o600),
	} {
		if !errors.Is(err, unix.EROFS) {
			t.Errorf("a change of a frozen store: %v, want EROFS", err)
		}
	}
	must(t, os.WriteFile(dir+"/file", []byte("changed"), 0o600))
	if b, err := os.ReadFile(path + "/file"); err != nil || string(b) != "changed" {
		t.Errorf("got %q, %v", b, err)
	}
	if _, _, err := Freeze(dir + "/none"); !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v", err)
	}
}

// TestWithoutFreeze checks a store on a thread that may not make mounts.
func TestWithoutFreeze(t *testing.T) {
	t.Parallel()
	f := standard(t)
	done := make(chan error)
	var path string
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := dropCapability(unix.CAP_SYS_ADMIN)
		if err == nil {
			path, _, err = Freeze(f.store)
		}
		if err == nil {
			_, err = Verify(t.Context(), f.options(), func(x Finding) { t.Errorf("%+v", x) })
		}
		done <- err
	}()
	if err := <-done; err != nil || path != f.store {
		t.Errorf("got %q, %v", path, err)
	}
}

// dropCapability takes a capability from the calling thread alone.
func dropCapability(which uint) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return err
	}
	data[which/32].Effective &^= 1 << (which % 32)
	return unix.Capset(&hdr, &data[0])
}
