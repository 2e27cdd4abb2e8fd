package keyring

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/code"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// verbs are what Ring and Offline have in common.
type verbs interface {
	Slots(u account.User) ([]SlotInfo, error)
	AddPassword(ctx context.Context, u account.User, p Proof, password []byte, label, by string) (slot.ID, error)
	AddCode(ctx context.Context, u account.User, p Proof, label, by string) (code.Code, slot.ID, error)
	Revoke(ctx context.Context, u account.User, id slot.ID, force bool, by string) error
	Recover(ctx context.Context, u account.User, p Proof, password []byte, by string) error
	MissingRecipients(u account.User) ([]string, error)
}

// everyVerb runs a test with a Ring and with an Offline. Whatever changed is seen by a ring that is opened then.
func everyVerb(t *testing.T, f func(t *testing.T, fx *fixture, v verbs)) {
	for _, name := range []string{"ring", "offline"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fx, r := newTestRing(t)
			if name == "ring" {
				f(t, fx, r)
				return
			}
			o, err := OpenOfflineOptions(fx.Options)
			must(t, err)
			defer o.Close()
			f(t, fx, o)
		})
	}
}

func (f *fixture) opens(t *testing.T, u account.User, password string) bool {
	t.Helper()
	o, err := OpenOffline(f.Store, "", f.Site)
	must(t, err)
	defer o.Close()
	err = o.Unlock(t.Context(), u, []byte(password))
	if err != nil && !errors.Is(err, ErrWrongSecret) {
		t.Fatal(err)
	}
	return err == nil
}

func pw(s string) Proof { return Proof{Password: []byte(s)} }

func TestSlots(t *testing.T) {
	t.Parallel()
	everyVerb(t, func(t *testing.T, f *fixture, v verbs) {
		ctx := t.Context()
		proof, password := pw("pw"), []byte("phone secret")
		phone, err := v.AddPassword(ctx, alice, proof, password, "phone", "root")
		must(t, err)
		if !bytes.Equal(proof.Password, make([]byte, 2)) || !bytes.Equal(password, make([]byte, 12)) {
			t.Error("a secret is left")
		}
		list, err := v.Slots(alice)
		must(t, err)
		if len(list) != 2 || list[1].ID != phone || list[1].Label != "phone" || list[1].By != "root" || list[1].Kind != slot.KindPassword || list[1].Created.IsZero() {
			t.Errorf("%+v", list)
		}
		for _, p := range []string{"pw", "phone secret"} {
			if !f.opens(t, alice, p) {
				t.Errorf("%q does not open", p)
			}
		}
		must(t, v.Revoke(ctx, alice, phone, false, "root"))
		if f.opens(t, alice, "phone secret") {
			t.Error("a revoked password opens")
		}
		if err := v.Revoke(ctx, alice, phone, false, "root"); !errors.Is(err, ErrNoSlot) {
			t.Errorf("revoked twice: %v", err)
		}
		if err := v.Revoke(ctx, alice, list[0].ID, false, "root"); !errors.Is(err, ErrLastSlot) {
			t.Errorf("the last slot: %v", err)
		}
		if !f.opens(t, alice, "pw") {
			t.Error("the last slot was revoked")
		}
		must(t, v.Revoke(ctx, alice, list[0].ID, true, "root"))
		if list, err := v.Slots(alice); err != nil || len(list) != 0 {
			t.Errorf("%v, %v", list, err)
		}
	})
}

func TestCode(t *testing.T) {
	t.Parallel()
	everyVerb(t, func(t *testing.T, f *fixture, v verbs) {
		ctx := t.Context()
		c, id, err := v.AddCode(ctx, alice, pw("pw"), "sheet", "root")
		must(t, err)
		defer c.Wipe()
		text, err := c.Text()
		must(t, err)
		typed := func() []byte { return []byte(strings.ToLower(strings.ReplaceAll(string(text), "-", " "))) }
		must(t, v.Recover(ctx, alice, Proof{Code: typed()}, []byte("new"), "root"))
		if f.opens(t, alice, "pw") || !f.opens(t, alice, "new") {
			t.Error("the login password is another")
		}
		list, err := v.Slots(alice)
		must(t, err)
		if len(list) != 2 || list[0].Label != firstLabel || list[1].ID != id {
			t.Errorf("%+v", list)
		}
		// The code of another user opens nothing, a mistyped one is told as such.
		other, err := code.Generate()
		must(t, err)
		foreign, err := other.Text()
		must(t, err)
		if err := v.Recover(ctx, alice, Proof{Code: foreign}, []byte("x"), "root"); !errors.Is(err, ErrWrongSecret) {
			t.Errorf("another code: %v", err)
		}
		wrong := typed()
		wrong[0] ^= 1
		if err := v.Recover(ctx, alice, Proof{Code: wrong}, []byte("x"), "root"); !errors.Is(err, code.ErrCode) {
			t.Errorf("a mistyped code: %v", err)
		}
		must(t, v.Revoke(ctx, alice, id, false, "root"))
		if err := v.Recover(ctx, alice, Proof{Code: typed()}, []byte("x"), "root"); !errors.Is(err, ErrWrongSecret) {
			t.Errorf("a revoked code: %v", err)
		}
	})
}

func TestRecoveryKeys(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f, r := newTestRing(t)
	first, firstIDs := recoveryKey(t, false)
	second, secondIDs := recoveryKey(t, true)
	must(t, r.Enroll(ctx, bob, []byte("pw"), "test"))
	must(t, r.Unlock(ctx, bob, []byte("pw")))

	err := r.Recover(ctx, alice, Proof{Identities: firstIDs}, []byte("x"), "root")
	if !errors.Is(err, ErrWrongSecret) || !errors.Is(err, ErrNoRecovery) {
		t.Errorf("without a slot: %v", err)
	}
	r.SetRecipients([]recovery.Recipient{first, second, first})
	if m, err := r.MissingRecipients(alice); err != nil || len(m) != 2 || m[0] != first.String() || m[1] != second.String() {
		t.Errorf("%q, %v", m, err)
	}
	if m, err := r.MissingRecipients(bob); err != nil || len(m) != 0 {
		t.Errorf("an unlocked user was not updated: %q, %v", m, err)
	}
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	if m, err := r.MissingRecipients(alice); err != nil || len(m) != 0 {
		t.Errorf("the unlock did not add: %q, %v", m, err)
	}
	must(t, r.Lock(alice))
	for _, ids := range [][]age.Identity{firstIDs, secondIDs} {
		must(t, r.Recover(ctx, alice, Proof{Identities: ids}, []byte("pw"), "root"))
		if r.Holds(alice) {
			t.Error("a locked user was unlocked by his recovery")
		}
	}
	_, strangers := recoveryKey(t, true)
	if err := r.Recover(ctx, alice, Proof{Identities: strangers}, []byte("x"), "root"); !errors.Is(err, ErrWrongSecret) || !errors.Is(err, recovery.ErrNoMatch) {
		t.Errorf("a stranger's key: %v", err)
	}

	// Retired at the next unlock; an empty list retires nobody.
	r.SetRecipients([]recovery.Recipient{second})
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	recipients := func() string {
		list, err := r.Slots(alice)
		must(t, err)
		var b strings.Builder
		for _, s := range list {
			b.WriteString(s.Recipient + " ")
		}
		return b.String()
	}
	if got := recipients(); got != " "+second.String()+" " {
		t.Errorf("recipients %q", got)
	}
	r.SetRecipients(nil)
	if got := recipients(); got != " "+second.String()+" " {
		t.Errorf("an empty list took %q", got)
	}
	// Who enrols has a slot at once.
	f.Recipients = []recovery.Recipient{first}
	again := f.open(t)
	must(t, again.Enroll(ctx, "carol", []byte("pw"), "test"))
	if m, err := again.MissingRecipients("carol"); err != nil || len(m) != 0 {
		t.Errorf("%q, %v", m, err)
	}
}

// TestRecoverySlotOfAnother puts the slot of one user into the record of another.
func TestRecoverySlotOfAnother(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f, r, ids := newRecoverable(t, false, alice, bob)
	var stolen []byte
	f.update(t, alice, func(rec *records.User) error { stolen = rec.Slots[1].Wrapped; return nil })
	f.update(t, bob, func(rec *records.User) error { rec.Slots[1].Wrapped = stolen; return nil })
	if err := r.Recover(ctx, bob, Proof{Identities: ids}, []byte("x"), "root"); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("got %v", err)
	}
	must(t, r.Recover(ctx, alice, Proof{Identities: ids}, []byte("x"), "root"))
}

// TestRecoverKeepsSessions changes the login password of an unlocked user.
func TestRecoverKeepsSessions(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f, r := newTestRing(t)
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	before, err := r.SealingKey(alice)
	must(t, err)
	must(t, r.Recover(ctx, alice, Proof{}, []byte("new"), "root"))
	if after, err := r.SealingKey(alice); err != nil || after != before {
		t.Errorf("the session ended: %v", err)
	}
	if err := r.Unlock(ctx, alice, []byte("pw")); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("the old password: %v", err)
	}
	must(t, r.Unlock(ctx, alice, []byte("new")))
	if !f.open(t).Holds(alice) {
		t.Error("the keyring entry is stale")
	}
	must(t, r.Lock(alice))
	if err := r.Recover(ctx, alice, Proof{}, []byte("newer"), "root"); !errors.Is(err, secret.ErrLocked) {
		t.Errorf("without a proof: %v", err)
	}
	if _, _, err := r.AddCode(ctx, bob, Proof{}, "x", "root"); !errors.Is(err, secret.ErrNotEnrolled) {
		t.Errorf("of nobody: %v", err)
	}
}

// TestRevokeKeepsSessions revokes the very slot that unlocked.
// TestHeldIsACopy has the identity that a slot is added with replaced meanwhile, as a login with another password does.
func TestHeldIsACopy(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	_, r := newTestRing(t)
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	held, err := r.held(alice, &Proof{})
	must(t, err)
	defer held.Wipe()
	must(t, r.ChangePassword(ctx, alice, []byte("pw"), []byte("pw2"), "test"))
	if _, err := r.addPassword(ctx, alice, &Proof{}, held, []byte("phone"), "phone", "test"); err != nil {
		t.Error(err)
	}
}

func TestRevokeKeepsSessions(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	_, r := newTestRing(t)
	id, err := r.AddPassword(ctx, alice, pw("pw"), []byte("app"), "app", "root")
	must(t, err)
	must(t, r.Unlock(ctx, alice, []byte("app")))
	ck, err := r.SealingKey(alice)
	must(t, err)
	must(t, r.Revoke(ctx, alice, id, false, "root"))
	if after, err := r.SealingKey(alice); err != nil || after != ck || !r.Holds(alice) {
		t.Errorf("the session ended: %v", err)
	}
	if err := r.Unlock(ctx, alice, []byte("app")); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("a revoked password: %v", err)
	}
}

func TestSlotErrors(t *testing.T) {
	t.Parallel()
	everyVerb(t, func(t *testing.T, f *fixture, v verbs) {
		ctx := t.Context()
		long := strings.Repeat("l", maxText+1)
		for name, tt := range map[string]struct {
			p               Proof
			password, label string
			want            error
		}{
			"wrong password": {pw("no"), "x", "x", ErrWrongSecret},
			"empty password": {pw("pw"), "", "x", ErrPassword},
			"long label":     {pw("pw"), "x", long, ErrLabel},
			"not UTF-8":      {pw("pw"), "x", "\xff", ErrLabel},
			"no proof":       {Proof{}, "x", "x", secret.ErrLocked},
			"empty code":     {Proof{Code: []byte{}}, "x", "x", code.ErrCode},
		} {
			if _, err := v.AddPassword(ctx, alice, tt.p, []byte(tt.password), tt.label, "root"); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		f.update(t, alice, func(rec *records.User) error {
			for len(rec.Slots) < records.MaxSlots {
				s := rec.Slots[0]
				s.ID = slot.RandomID()
				rec.Slots = append(rec.Slots, s)
			}
			return nil
		})
		if _, err := v.AddPassword(ctx, alice, pw("pw"), []byte("x"), "", "root"); !errors.Is(err, ErrTooManySlots) {
			t.Errorf("65 slots: %v", err)
		}
	})
}
