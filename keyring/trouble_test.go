package keyring

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

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

// TestOneDerivation measures by the memory that was allocated that a login costs one derivation however many slots there
// are, whether the password opens the first, the last or none.
func TestOneDerivation(t *testing.T) {
	f := newFixture(t)
	f.Params = slot.Params{MemoryKiB: 32 << 10, Time: 1, Threads: 1}
	r := f.open(t)
	ctx := t.Context()
	must(t, r.Enroll(ctx, alice, []byte("first"), "test"))
	f.update(t, alice, func(rec *records.User) error {
		for range 40 {
			s := rec.Slots[0]
			s.ID = slot.RandomID() // opens with no password, but is tried
			rec.Slots = append(rec.Slots, s)
		}
		return nil
	})
	_, err := r.AddPassword(ctx, alice, pw("first"), []byte("last"), "", "test")
	must(t, err)
	for password, want := range map[string]error{"first": nil, "last": nil, "none": ErrWrongSecret} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := r.Unlock(ctx, alice, []byte(password)); !errors.Is(err, want) {
			t.Errorf("%s: %v", password, err)
		}
		runtime.ReadMemStats(&after)
		if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n < 32 || n > 50 {
			t.Errorf("%s: %d MiB were allocated, one derivation takes 32", password, n)
		}
		if want == nil {
			must(t, r.Lock(alice))
		}
	}
}

// TestAnswers recovers a user by a key on another machine.
func TestAnswers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f, r, ids := newRecoverable(t, true, alice, bob)
	req, pending, err := r.RecoveryRequest(ctx, alice, "root")
	must(t, err)
	defer pending.Wipe()
	answer, err := recovery.Approve(req, ids, f.time())
	must(t, err)
	// For another user than the one that was asked for.
	identity, err := pending.Apply(answer, f.time())
	must(t, err)
	if err := r.Recover(ctx, bob, Proof{Identity: identity}, []byte("x"), "root"); !errors.Is(err, slot.ErrForeign) {
		t.Errorf("another user: %v", err)
	}
	if _, err := identity.Clone(); !errors.Is(err, secret.ErrWiped) {
		t.Error("the identity was not wiped")
	}
	identity, err = pending.Apply(answer, f.time())
	must(t, err)
	must(t, r.Recover(ctx, alice, Proof{Identity: identity}, []byte("new"), "root"))
	if !f.opens(t, alice, "new") || f.opens(t, alice, "pw") || !f.opens(t, bob, "pw") {
		t.Error("another password")
	}
	// After the identity was replaced an old answer opens nothing.
	identity, err = pending.Apply(answer, f.time())
	must(t, err)
	must(t, r.Unlock(ctx, alice, []byte("new")))
	must(t, r.Rotate(ctx, alice, true, "root"))
	if err := r.Recover(ctx, alice, Proof{Identity: identity}, []byte("y"), "root"); !errors.Is(err, slot.ErrForeign) {
		t.Errorf("an old identity: %v", err)
	}
	if _, _, err := r.RecoveryRequest(ctx, "carol", "root"); !errors.Is(err, secret.ErrNotEnrolled) {
		t.Errorf("nobody: %v", err)
	}
}

func TestDrill(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f, r := newTestRing(t)
	recipient, ids := recoveryKey(t, false)
	_, strangers := recoveryKey(t, false)
	o, err := OpenOffline(f.Store, "", f.Site)
	must(t, err)
	defer o.Close()
	if err := o.Drill(alice, ids); !errors.Is(err, ErrNoRecovery) {
		t.Errorf("without a slot: %v", err)
	}
	r.SetRecipients([]recovery.Recipient{recipient})
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	must(t, o.Drill(alice, ids))
	if err := o.Drill(alice, strangers); !errors.Is(err, recovery.ErrNoMatch) {
		t.Errorf("a stranger: %v", err)
	}
	if err := o.Drill(bob, ids); !errors.Is(err, secret.ErrNotEnrolled) {
		t.Errorf("nobody: %v", err)
	}
	must(t, r.Rotate(ctx, alice, true, "root"))
	must(t, o.Drill(alice, ids))
	f.update(t, alice, func(rec *records.User) error { rec.Current().Sealed[9] ^= 1; return nil })
	if err := o.Drill(alice, ids); !errors.Is(err, slot.ErrSealed) {
		t.Errorf("a content key that does not open: %v", err)
	}
}

func TestUnlockProof(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f, r, ids := newRecoverable(t, false, alice)
	c, _, err := r.AddCode(ctx, alice, pw("pw"), "sheet", "root")
	must(t, err)
	text, err := c.Text()
	must(t, err)
	mail := someMail(t, r)
	for name, p := range map[string]Proof{"password": pw("pw"), "code": {Code: text}, "key": {Identities: ids}} {
		o, err := OpenOffline(f.Store, "", f.Site)
		must(t, err)
		must(t, o.UnlockProof(ctx, alice, p))
		for _, id := range []secret.ID{mail.content, mail.delivery} {
			if _, err := o.OpeningKey(alice, id); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		o.Close()
	}
	o, err := OpenOffline(f.Store, "", f.Site)
	must(t, err)
	defer o.Close()
	for _, p := range []Proof{{}, pw("no")} {
		if err := o.UnlockProof(ctx, alice, p); !errors.Is(err, secret.ErrLocked) && !errors.Is(err, ErrWrongSecret) {
			t.Errorf("%+v: %v", p, err)
		}
		if _, err := o.OpeningKey(alice, mail.content); !errors.Is(err, secret.ErrLocked) {
			t.Errorf("opened: %v", err)
		}
	}
}

func TestEscrow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.open(t)
	s := bytes.Repeat([]byte{5}, 32)
	if err := r.Escrow(s); err == nil {
		t.Error("sealed to nobody")
	}
	if _, err := records.Escrow(f.Store); !errors.Is(err, records.ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	recipient, ids := recoveryKey(t, true)
	r.SetRecipients([]recovery.Recipient{recipient})
	must(t, r.Escrow(s))
	file, err := records.Escrow(f.Store)
	must(t, err)
	if got, err := recovery.OpenSite(file, ids); err != nil || !bytes.Equal(got, s) {
		t.Errorf("%v", err)
	}
}

// TestEvents pins what the audit log is told.
func TestEvents(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var events []audit.Event
	f.Audit = func(e audit.Event) { events = append(events, e) }
	r := f.open(t)
	ctx := WithPeer(t.Context(), "imap")
	recipient, ids := recoveryKey(t, false)
	told := func(what string, want ...string) {
		t.Helper()
		var got []string
		for _, e := range events {
			got = append(got, e.What)
			if e.User != alice || e.Time.IsZero() || strings.Contains(e.Detail+e.Cause+e.By, "pw") {
				t.Errorf("%s: %+v", what, e)
			}
			if e.Peer != "imap" && e.What != audit.Lock && e.By != byConfiguration {
				t.Errorf("%s: peer of %+v", what, e)
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
		events = nil
	}
	must(t, r.Enroll(ctx, alice, []byte("pw"), "test"))
	told("enroll", audit.Enroll)
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	told("unlock", audit.Unlock)
	r.SetRecipients([]recovery.Recipient{recipient})
	told("recipient", audit.SlotAdd)
	id, err := r.AddPassword(ctx, alice, Proof{}, []byte("pw2"), "phone", "test")
	must(t, err)
	told("add", audit.SlotAdd)
	must(t, r.Revoke(ctx, alice, id, false, "test"))
	told("revoke", audit.SlotRevoke)
	must(t, r.ChangePassword(ctx, alice, []byte("pw"), []byte("pw3"), "test"))
	must(t, r.ResetPassword(ctx, alice, []byte("pw4"), "test"))
	told("passwords", audit.PasswordChange, audit.PasswordReset)
	must(t, r.Recover(ctx, alice, Proof{Identities: ids}, []byte("pw5"), "test"))
	told("recover", audit.Recover)
	_, p, err := r.RecoveryRequest(ctx, alice, "test")
	must(t, err)
	p.Wipe()
	told("request", audit.RecoveryRequest)
	must(t, r.Rotate(ctx, alice, true, "test"))
	must(t, r.FinishRotation(ctx, alice, seen(t, r)))
	told("rotate", audit.RotateStart, audit.RotateEnd)
	must(t, r.Lock(alice))
	told("lock", audit.Lock)
	if err := r.Recover(ctx, alice, pw("no"), []byte("x"), "test"); !errors.Is(err, ErrWrongSecret) {
		t.Error(err)
	}
	told("refused")
	_, err = r.Forget(ctx, alice, "test")
	must(t, err)
	told("forget", audit.Forget)
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

// TestRotationByAnotherProcess has a ring that is told afterwards.
func TestRotationByAnotherProcess(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f, r := newTestRing(t)
	o, err := OpenOfflineOptions(f.Options)
	must(t, err)
	defer o.Close()
	delivery, err := r.SealingKey(alice)
	must(t, err)
	must(t, o.Rotate(ctx, alice, true, "root"))
	must(t, r.Reload(alice))
	after, err := r.SealingKey(alice)
	must(t, err)
	if after.ID == delivery.ID || !delivery.Key.Wiped() {
		t.Error("new mail goes under a key that is old")
	}
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	must(t, o.UnlockProof(context.WithoutCancel(ctx), alice, pw("pw")))
	must(t, o.Rotate(ctx, alice, true, "root"))
	must(t, r.Reload(alice))
	if !r.Holds(alice) {
		t.Error("the session ended")
	}
	if _, err := r.OpeningKey(alice, after.ID); err != nil {
		t.Errorf("a key of before: %v", err)
	}
}
