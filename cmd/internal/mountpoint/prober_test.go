package mountpoint

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	BeProber()
	os.Exit(m.Run())
}

func TestProber(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	p := NewProber(dir)
	defer p.Close()
	ask := func(what string, limit time.Duration, want ...error) {
		t.Helper()
		got := p.Ask(limit)
		for _, w := range want {
			if errors.Is(got, w) {
				return
			}
		}
		t.Errorf("%s: %v", what, got)
	}
	ask("a directory", time.Minute, nil)
	child := p.child
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	ask("a prober that was killed", time.Minute, ErrUnknown)
	ask("the next one", time.Minute, nil)
	fd := mountFUSE(t, dir)
	// Nobody serves the connection, but its descriptor is open: a daemon that hangs.
	ask("a hanging view", 50*time.Millisecond, ErrNoAnswer)
	ask("a view that hangs still", 50*time.Millisecond, ErrNoAnswer)
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	ask("the view of a daemon that died", time.Minute, unix.ENOTCONN, unix.ECONNABORTED)
	ask("a dead view", time.Minute, unix.ENOTCONN, unix.ECONNABORTED)
	if n, err := Clear(dir); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	ask("the directory again", time.Minute, nil)
}
