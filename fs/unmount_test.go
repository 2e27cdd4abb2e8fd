package fs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
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

// TestUnmountCopy ends a view of which another mount namespace has a copy.
func TestUnmountCopy(t *testing.T) {
	m := mountView(t)
	other := exec.Command("unshare", "--mount", "--propagation", "private", "cat")
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Wait()
	defer in.Close()
	if _, err := in.Write([]byte("x")); err != nil { // answered once the namespace is there
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := m.Unmount(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { m.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("requests are served after the end of the view")
	}
}
