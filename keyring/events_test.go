package keyring

import (
	"errors"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
)

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
