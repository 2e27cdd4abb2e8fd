package fs_test

import (
	"os"
	"path/filepath"
	"testing"
)

// TestUnmountBusy ends a view that a process uses, and finds no request left.
func TestUnmountBusy(t *testing.T) {
	m := mountView(t)
	f, err := os.Create(filepath.Join(m.view, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := m.Unmount(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("x")); err == nil {
		t.Error("a write after the end of the view succeeded")
	}
}
