package keyring

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/keyring/internal/tmpfs"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// TestDamagedRecord uses the previous record, says so, and never enrols over a damaged one.
func TestDamagedRecord(t *testing.T) {
	t.Parallel()
	f, r := newTestRing(t)
	f.update(t, alice, func(rec *records.User) error { rec.Slots[0].Label = "again"; return nil })
	must(t, os.Truncate(recordPath(f, alice, "record.toml"), 300))
	again := f.open(t)
	must(t, again.Unlock(t.Context(), alice, []byte("pw")))
	s, err := again.Status(alice)
	if err != nil || !s.Unlocked || !strings.Contains(s.Error, "record.prev.toml") {
		t.Errorf("%+v, %v", s, err)
	}
	must(t, os.Truncate(recordPath(f, alice, "record.prev.toml"), 300))
	third := f.open(t)
	if s, err := third.Status(alice); err != nil || !s.Enrolled || s.Unlocked || !strings.Contains(s.Error, "damaged") {
		t.Errorf("%+v, %v", s, err)
	}
	if err := third.Enroll(t.Context(), alice, []byte("pw"), "test"); !errors.Is(err, ErrEnrolled) {
		t.Errorf("enrolled over a damaged record: %v", err)
	}
	if _, err := third.SealingKey(alice); !errors.Is(err, records.ErrCorrupt) {
		t.Errorf("sealing: %v", err)
	}
	r.Close()
}

func TestWatchEnds(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"removed": func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) },
		"opened":  func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o755)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, r := newTestRing(t)
			must(t, r.Unlock(t.Context(), alice, []byte("pw")))
			done := make(chan error, 1)
			go func() { done <- r.Watch(t.Context()) }()
			// A user who is locked and unlocked shows that the watch is there.
			must(t, os.Remove(filepath.Join(f.Dir, alice.Escape())))
			eventually(t, "the watch is there", func() bool { return len(r.Unlocked()) == 0 })
			must(t, r.Unlock(t.Context(), alice, []byte("pw")))
			spoil(t, f.Dir)
			if err := <-done; !errors.Is(err, tmpfs.ErrDir) {
				t.Errorf("got %v", err)
			}
			if len(r.Unlocked()) != 0 {
				t.Error("somebody is still unlocked")
			}
		})
	}
}

// smallStore is a store on a filesystem of its own that a test can fill.
func smallStore(t *testing.T) (f *fixture, fill, empty func()) {
	t.Helper()
	f = newFixture(t)
	f.Store = t.TempDir()
	must(t, unix.Mount("tmpfs", f.Store, "tmpfs", 0, "size=1m,mode=700"))
	t.Cleanup(func() { must(t, unix.Unmount(f.Store, unix.MNT_DETACH)) })
	must(t, Setup(f.Store, f.Site, f.time()))
	ballast := filepath.Join(f.Store, "ballast")
	fill = func() {
		t.Helper()
		b, err := os.Create(ballast)
		must(t, err)
		defer b.Close()
		for size := 64 << 10; size > 0; size /= 2 {
			for err == nil {
				_, err = b.Write(make([]byte, size))
			}
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
			err = nil
		}
	}
	return f, fill, func() { must(t, os.Remove(ballast)) }
}

// TestFullDisk changes everything that can be changed on a full disk: the old state stays valid, and the change works when
// there is room again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	recipient, ids := recoveryKey(t, false)
	for name, change := range map[string]func(r *Ring) error{
		"password": func(r *Ring) error { return r.ChangePassword(ctx, alice, []byte("pw"), []byte("new"), "root") },
		"reset":    func(r *Ring) error { return r.ResetPassword(ctx, alice, []byte("new"), "root") },
		"recover":  func(r *Ring) error { return r.Recover(ctx, alice, Proof{Identities: ids}, []byte("new"), "root") },
		"add": func(r *Ring) error {
			_, err := r.AddPassword(ctx, alice, Proof{}, []byte("new"), "x", "root")
			return err
		},
		"code": func(r *Ring) error { c, _, err := r.AddCode(ctx, alice, Proof{}, "x", "root"); c.Wipe(); return err },
		"revoke": func(r *Ring) error {
			list, err := r.Slots(alice)
			must(t, err)
			return r.Revoke(ctx, alice, list[len(list)-1].ID, false, "root")
		},
		"rotate":   func(r *Ring) error { return r.Rotate(ctx, alice, false, "root") },
		"identity": func(r *Ring) error { return r.Rotate(ctx, alice, true, "root") },
		"finish": func(r *Ring) error {
			x, _, err := r.Rotation(alice)
			must(t, err)
			return r.FinishRotation(ctx, alice, x)
		},
		"forget": func(r *Ring) error { _, err := r.Forget(ctx, alice, "root"); return err },
		"enroll": func(r *Ring) error { return r.Enroll(ctx, bob, []byte("pw"), "root") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, fill, empty := smallStore(t)
			f.Recipients = []recovery.Recipient{recipient}
			r := f.open(t)
			must(t, r.Enroll(ctx, alice, []byte("pw"), "test"))
			mail := someMail(t, r)
			if name == "finish" {
				must(t, r.Rotate(ctx, alice, true, "root"))
			}
			before := map[string][]byte{}
			for _, file := range []string{"record.toml", "record.prev.toml"} {
				before[file], _ = os.ReadFile(recordPath(f, alice, file))
			}
			fill()
			if err := change(r); !errors.Is(err, unix.ENOSPC) {
				t.Fatalf("on a full disk: %v", err)
			}
			for file, want := range before {
				if got, _ := os.ReadFile(recordPath(f, alice, file)); !bytes.Equal(got, want) {
					t.Errorf("%s was changed", file)
				}
			}
			if name != "forget" { // which locks
				mail.open(t, r)
			}
			if name == "enroll" {
				if _, err := r.SealingKey(bob); !errors.Is(err, secret.ErrNotEnrolled) {
					t.Errorf("half enrolled: %v", err)
				}
			}
			again := f.open(t)
			must(t, again.Unlock(ctx, alice, []byte("pw")))
			mail.open(t, again)
			empty()
			must(t, r.Unlock(ctx, alice, []byte("pw")))
			must(t, change(r))
		})
	}
}

// TestDamagedRecordIsChanged changes records whose newest version is damaged: the previous one is used, and the change
// writes both anew.
func TestDamagedRecordIsChanged(t *testing.T) {
	t.Parallel()
	everyVerb(t, func(t *testing.T, f *fixture, v verbs) {
		ctx := t.Context()
		f.update(t, alice, func(rec *records.User) error { rec.Slots[0].Label = "login"; return nil })
		path := recordPath(f, alice, "record.toml")
		must(t, os.Truncate(path, 500))
		if _, err := v.AddPassword(ctx, alice, pw("no"), []byte("x"), "x", "root"); !errors.Is(err, ErrWrongSecret) {
			t.Errorf("wrong password: %v", err)
		}
		if b, err := os.ReadFile(path); err != nil || len(b) != 500 {
			t.Errorf("a refused change wrote %d bytes, %v", len(b), err)
		}
		id, err := v.AddPassword(ctx, alice, pw("pw"), []byte("x"), "x", "root")
		must(t, err)
		if !f.opens(t, alice, "x") {
			t.Error("the new slot does not open")
		}
		must(t, v.Revoke(ctx, alice, id, false, "root"))
		o, err := OpenOffline(f.Store, "", f.Site)
		must(t, err)
		defer o.Close()
		must(t, o.Warning(alice))
		// Both damaged: nothing is changed, and nothing is taken for never enrolled.
		must(t, os.Truncate(path, 500))
		must(t, os.Truncate(recordPath(f, alice, "record.prev.toml"), 500))
		fresh, err := OpenOfflineOptions(f.Options)
		must(t, err)
		defer fresh.Close()
		if err := fresh.Recover(ctx, alice, pw("pw"), []byte("y"), "root"); !errors.Is(err, records.ErrCorrupt) {
			t.Errorf("both damaged: %v", err)
		}
		if got, err := fresh.Forget(ctx, alice, "root"); err != nil || got.User != alice {
			t.Errorf("a damaged record cannot be forgotten: %v", err)
		}
	})
}

// TestResetOfRevoked resets the password of a session whose slot was revoked.
func TestResetOfRevoked(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	_, r := newTestRing(t)
	id, err := r.AddPassword(ctx, alice, pw("pw"), []byte("app"), "app", "root")
	must(t, err)
	must(t, r.Unlock(ctx, alice, []byte("app")))
	must(t, r.Revoke(ctx, alice, id, false, "root"))
	must(t, r.ResetPassword(ctx, alice, []byte("new"), "root"))
	must(t, r.Lock(alice))
	must(t, r.Unlock(ctx, alice, []byte("new")))
}
