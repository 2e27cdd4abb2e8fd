package fs_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// brittleKeys panic when they are told to, in the middle of a request.
type brittleKeys struct {
	fs.KeySource
	broken atomic.Bool
}

func (k *brittleKeys) SealingKey(u account.User) (secret.ContentKey, error) {
	if k.broken.Load() {
		panic("a mistake of the key source")
	}
	return k.KeySource.SealingKey(u)
}

func (k *brittleKeys) OpeningKey(u account.User, id secret.ID) (*secret.Key, error) {
	if k.broken.Load() {
		panic("a mistake of the key source")
	}
	return k.KeySource.OpeningKey(u, id)
}

// TestPanic: a mistake in a handler costs the request that met it: EIO, a line in the log, and no lock that stays held. The
// same file can be opened, written and removed as soon as there is no mistake any more.
func TestPanic(t *testing.T) {
	var log lockedBuffer
	k := &brittleKeys{}
	m := mountWith(t, t.TempDir(), func(o *fs.Options) {
		k.KeySource, o.Keys = o.Keys, k
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	box := m.view + "/alice/cur"
	for _, err := range []error{os.MkdirAll(box, 0o700), os.WriteFile(box+"/1", []byte("one"), 0o600), os.WriteFile(box+"/2", []byte("two"), 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	m.KeysGone("alice") // so that keys are asked for again
	requests := map[string]func() error{
		"open":     func() error { _, err := os.ReadFile(box + "/1"); return err },
		"truncate": func() error { return os.Truncate(box+"/2", 1) },
		"write":    func() error { return os.WriteFile(box+"/new", []byte("new"), 0o600) },
	}
	k.broken.Store(true)
	for range 3 {
		for what, do := range requests {
			if err := do(); !errors.Is(err, unix.EIO) {
				t.Errorf("%s: %v, want EIO", what, err)
			}
			if _, err := os.ReadDir(box); err != nil { // others go on
				t.Errorf("after %s: %v", what, err)
			}
		}
	}
	k.broken.Store(false)
	for what, do := range requests {
		if err := do(); err != nil {
			t.Errorf("%s, when there is no mistake any more: %v", what, err)
		}
	}
	if b, err := os.ReadFile(box + "/1"); err != nil || string(b) != "one" {
		t.Errorf("%q, %v", b, err)
	}
	if err := errors.Join(os.Rename(box+"/2", box+"/3"), os.RemoveAll(box)); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "a mistake of the key source") || !strings.Contains(log.String(), "panic_test.go") {
		t.Errorf("the log does not say what happened, or where: %s", log.String())
	}
}

// lockedBuffer is a log that a test can read meanwhile.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String is what was written so far.
func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
