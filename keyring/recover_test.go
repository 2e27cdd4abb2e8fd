package keyring

import (
	"bytes"
	"errors"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

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
