package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// changedPassword makes a store whose only user is unlocked and has changed the password. It returns the path of the
// keyring entry, and what is in it after the change; the file is as it was before.
func changedPassword(t *testing.T) (o keyring.Options, path string, after []byte) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.MkdirTemp("/dev/shm", "mailcryptfs-test-")
	check(err)
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	keys, err := site.Derive(make([]byte, 32))
	check(err)
	t.Cleanup(keys.Wipe)
	o = keyring.Options{
		Store: filepath.Join(root, "store"), Dir: filepath.Join(root, "keyring"), Site: keys,
		Params: slot.Params{MemoryKiB: slot.MinMemoryKiB, Time: slot.MinTime, Threads: slot.MinThreads},
	}
	check(errors.Join(os.Mkdir(o.Store, 0o700), os.Mkdir(o.Dir, 0o700)))
	check(keyring.Setup(o.Store, keys, time.Now()))
	ring, err := keyring.Open(t.Context(), o)
	check(err)
	defer ring.Close()
	check(ring.EnrollAndUnlock(t.Context(), owner, []byte("old"), "test"))
	path = filepath.Join(o.Dir, owner.Escape())
	before, err := os.ReadFile(path)
	check(err)
	check(ring.ChangePassword(t.Context(), owner, []byte("old"), []byte("new"), "test"))
	after, err = os.ReadFile(path)
	check(err)
	check(os.WriteFile(path, before, 0o600))
	return o, path, after
}

// TestUnlockByEntryBesidePasswd unlocks by an entry that follows its record late, and by one that never does.
func TestUnlockByEntryBesidePasswd(t *testing.T) {
	t.Parallel()
	o, path, after := changedPassword(t)
	synctest.Test(t, func(t *testing.T) {
		tries, late := 0, 0
		open := func() (*keyring.Offline, error) {
			if tries++; tries == late {
				if err := os.WriteFile(path, after, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			return keyring.OpenOffline(o.Store, o.Dir, o.Site)
		}
		began := time.Now()
		if _, err := unlockByEntry(open, owner); !errors.Is(err, keyring.ErrStale) || ui.ExitCode(err) != ui.ExitIOErr || time.Since(began) != entryBehind {
			t.Errorf("an entry that stays behind: %v after %v", err, time.Since(began))
		}
		tries, late = 0, 5
		offline, err := unlockByEntry(open, owner)
		if err != nil || tries != late {
			t.Fatalf("%v after %d tries", err, tries)
		}
		offline.Close()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		tries, late = 0, 0
		if _, err := unlockByEntry(open, owner); ui.ExitCode(err) != ui.ExitNoPerm || tries != 1 {
			t.Errorf("a locked user: %v after %d tries", err, tries)
		}
	})
}
