package keyring

import (
	"bytes"
	"errors"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

func TestOffline(t *testing.T) {
	t.Parallel()
	f, r := newTestRing(t)
	delivery, err := r.SealingKey(alice)
	must(t, err)
	must(t, r.Unlock(t.Context(), alice, []byte("pw")))
	current, err := r.SealingKey(alice)
	must(t, err)
	before := tree(t, f)

	for name, unlock := range map[string]func(o *Offline) error{
		"entry":    func(o *Offline) error { return o.UnlockByEntry(alice) },
		"password": func(o *Offline) error { return o.Unlock(t.Context(), alice, []byte("pw")) },
	} {
		dir := f.Dir
		if name == "password" {
			dir = ""
		}
		o, err := OpenOffline(f.Store, dir, f.Site)
		must(t, err)
		if users, err := o.Users(); err != nil || len(users) != 1 {
			t.Errorf("%v, %v", users, err)
		}
		if _, err := o.OpeningKey(alice, current.ID); !errors.Is(err, secret.ErrLocked) {
			t.Errorf("%s: before: %v", name, err)
		}
		if err := o.Unlock(t.Context(), alice, []byte("no")); !errors.Is(err, ErrWrongSecret) {
			t.Errorf("%s: wrong password: %v", name, err)
		}
		must(t, unlock(o))
		must(t, unlock(o))
		for _, ck := range []secret.ContentKey{delivery, current} {
			k, err := o.OpeningKey(alice, ck.ID)
			must(t, err)
			if !bytes.Equal(keyBytes(t, k), keyBytes(t, ck.Key)) {
				t.Errorf("%s: another key came out", name)
			}
			defer func() {
				if !k.Wiped() {
					t.Error("a key outlived Close")
				}
			}()
		}
		if _, err := o.OpeningKey(alice, secret.ID{}); !errors.Is(err, secret.ErrUnknownKey) {
			t.Errorf("%s: unknown: %v", name, err)
		}
		if err := o.UnlockByEntry(bob); !errors.Is(err, secret.ErrLocked) {
			t.Errorf("%s: without an entry: %v", name, err)
		}
		if err := o.Warning(bob); !errors.Is(err, secret.ErrNotEnrolled) {
			t.Errorf("%s: %v", name, err)
		}
		must(t, o.Warning(alice))
		o.Close()
		o.Close()
		if _, err := o.OpeningKey(alice, current.ID); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: after Close: %v", name, err)
		}
	}
	if after := tree(t, f); after != before {
		t.Errorf("something was changed:\n%s\n%s", before, after)
	}
}

// TestOfflineFollowsRotation has keys rotated beside an Offline that has read the record: an export goes on meanwhile.
func TestOfflineFollowsRotation(t *testing.T) {
	t.Parallel()
	f, r := newTestRing(t)
	must(t, r.Unlock(t.Context(), alice, []byte("pw")))
	o, err := OpenOffline(f.Store, f.Dir, f.Site)
	must(t, err)
	defer o.Close()
	must(t, o.UnlockByEntry(alice))
	for _, identity := range []bool{false, true, false} {
		must(t, r.Rotate(t.Context(), alice, identity, "root"))
		current, err := r.SealingKey(alice)
		must(t, err)
		k, err := o.OpeningKey(alice, current.ID)
		must(t, err)
		if !bytes.Equal(keyBytes(t, k), keyBytes(t, current.Key)) {
			t.Error("another key came out")
		}
	}
	if _, err := o.OpeningKey(alice, secret.ID{1}); !errors.Is(err, secret.ErrUnknownKey) {
		t.Errorf("unknown: %v", err)
	}
}

func TestOfflineRotate(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f, r := newTestRing(t)
	old := someMail(t, r)
	r.Close()
	o, err := OpenOfflineOptions(f.Options)
	must(t, err)
	defer o.Close()
	must(t, o.Rotate(ctx, alice, true, "root"))
	if x, ok, err := o.Rotation(alice); err != nil || !ok || !x.Pending {
		t.Errorf("locked: %+v, %v", x, err)
	}
	must(t, o.UnlockProof(ctx, alice, pw("pw")))
	must(t, o.Rotate(ctx, alice, true, "root"))
	if x, ok, err := o.Rotation(alice); err != nil || !ok || x.Pending || x.Keys < 3 {
		t.Errorf("unlocked: %+v, %v", x, err)
	}
	must(t, o.ChangePassword(ctx, alice, []byte("pw"), []byte("new"), "root"))
	if err := o.ChangePassword(ctx, alice, []byte("pw"), []byte("new"), "root"); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("the old password: %v", err)
	}
	r = f.open(t)
	must(t, r.Unlock(ctx, alice, []byte("new")))
	old.open(t, r)
	must(t, r.FinishRotation(ctx, alice, seen(t, r)))
	old.gone(t, f, r)
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
