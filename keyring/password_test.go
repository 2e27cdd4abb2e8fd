package keyring

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

func TestChangePassword(t *testing.T) {
	t.Parallel()
	for _, unlocked := range []bool{true, false} {
		f := newFixture(t)
		r := f.open(t)
		ctx := t.Context()
		must(t, r.Enroll(ctx, alice, []byte("old"), "test"))
		must(t, r.Unlock(ctx, alice, []byte("old")))
		before, err := r.SealingKey(alice)
		must(t, err)
		if !unlocked {
			must(t, r.Lock(alice))
		}
		old, fresh := []byte("old"), []byte("new")
		must(t, r.ChangePassword(ctx, alice, old, fresh, "test"))
		if string(old) != "\x00\x00\x00" || string(fresh) != "\x00\x00\x00" {
			t.Error("a password is left")
		}
		if r.Holds(alice) != unlocked {
			t.Errorf("unlocked %v became %v", unlocked, !unlocked)
		}
		if unlocked {
			if after, err := r.SealingKey(alice); err != nil || after != before {
				t.Errorf("the session's key is another: %v", err)
			}
			// A daemon that is started again finds an entry that opens the slot.
			other := f.open(t)
			if !other.Holds(alice) {
				t.Error("the keyring entry is stale")
			}
			other.Close()
			must(t, r.Lock(alice))
		}
		if err := r.Unlock(ctx, alice, []byte("old")); !errors.Is(err, ErrWrongSecret) {
			t.Errorf("the old password: %v", err)
		}
		must(t, r.Unlock(ctx, alice, []byte("new")))
		rec := r.lookup(alice).record()
		if len(rec.Slots) != 1 || rec.Slots[0].Label != firstLabel || rec.Serial != 2 {
			t.Errorf("%d slots, label %q, serial %d", len(rec.Slots), rec.Slots[0].Label, rec.Serial)
		}
		prev := filepath.Join(f.Store, records.DirName, "users", alice.Escape(), "record.prev.toml")
		if _, err := os.Stat(prev); err != nil {
			t.Error(err)
		}
	}
}

func TestChangePasswordErrors(t *testing.T) {
	t.Parallel()
	r := newFixture(t).open(t)
	must(t, r.Enroll(t.Context(), alice, []byte("old"), "test"))
	for _, tt := range []struct {
		user     account.User
		old, new string
		want     error
	}{
		{alice, "other", "new", ErrWrongSecret},
		{alice, "", "new", ErrPassword},
		{alice, "old", "", ErrPassword},
		{bob, "old", "new", secret.ErrNotEnrolled},
	} {
		if err := r.ChangePassword(t.Context(), tt.user, []byte(tt.old), []byte(tt.new), "test"); !errors.Is(err, tt.want) {
			t.Errorf("%s %q to %q: %v", tt.user, tt.old, tt.new, err)
		}
	}
	must(t, r.Unlock(t.Context(), alice, []byte("old")))
}

func TestResetPassword(t *testing.T) {
	t.Parallel()
	r := newFixture(t).open(t)
	ctx := t.Context()
	must(t, r.Enroll(ctx, alice, []byte("old"), "test"))
	if err := r.ResetPassword(ctx, alice, []byte("new"), "test"); !errors.Is(err, secret.ErrLocked) {
		t.Fatalf("of a locked user: %v", err)
	}
	if s, err := r.Status(alice); err != nil || s.Error != WasReset {
		t.Errorf("%q, %v", s.Error, err)
	}
	// The login with the new password says the same.
	if err := r.Unlock(ctx, alice, []byte("new")); !errors.Is(err, ErrWrongSecret) {
		t.Error(err)
	}
	if s, _ := r.Status(alice); s.Error != WasReset {
		t.Errorf("after a login: %q", s.Error)
	}
	must(t, r.ChangePassword(ctx, alice, []byte("old"), []byte("new"), "test"))
	if s, _ := r.Status(alice); s.Error != "" {
		t.Errorf("after passwd: %q", s.Error)
	}
	must(t, r.Unlock(ctx, alice, []byte("new")))
	must(t, r.ResetPassword(ctx, alice, []byte("newer"), "test"))
	must(t, r.Lock(alice))
	must(t, r.Unlock(ctx, alice, []byte("newer")))
}

func TestKeepPlain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.open(t)
	must(t, r.Enroll(t.Context(), alice, []byte("old"), "test"))
	for _, u := range []account.User{alice, bob} { // bob is not enrolled
		must(t, r.KeepPlain(u, false))
		for _, keep := range []bool{true, true, false, true} {
			must(t, r.KeepPlain(u, keep))
			if got, err := r.KeptPlain(u); err != nil || got != keep {
				t.Errorf("%s: %v, %v, want %v", u, got, err, keep)
			}
		}
	}
	if users, err := r.Users(); err != nil || len(users) != 1 {
		t.Errorf("users %v, %v", users, err)
	}
	must(t, r.Enroll(t.Context(), bob, []byte("pw"), "test"))
	path := filepath.Join(f.Store, records.DirName, "users", string(bob), "plain.toml")
	b, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(f.Store, records.DirName, "users", alice.Escape(), "plain.toml"), b, 0o600))
	if kept, err := r.KeptPlain(alice); kept || !errors.Is(err, records.ErrCorrupt) {
		t.Errorf("another user's record: %v, %v", kept, err)
	}
	b[len(b)-3] ^= 1
	must(t, os.WriteFile(path, b, 0o600))
	if kept, err := r.KeptPlain(bob); kept || !errors.Is(err, records.ErrMAC) {
		t.Errorf("a changed record: %v, %v", kept, err)
	}
}

// TestUpgrade changes the cost of a slot at a login, and nothing else of it.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f, r := newTestRing(t)
	before, err := r.Slots(alice)
	must(t, err)
	r.Close()
	f.Params.Time++
	r = f.open(t)
	if err := r.Unlock(ctx, alice, []byte("no")); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("wrong password: %v", err)
	}
	if p := r.lookup(alice).record().Slots[0].Params; p == f.Params {
		t.Error("a wrong password changed the slot")
	}
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	if p := r.lookup(alice).record().Slots[0].Params; p != f.Params {
		t.Errorf("parameters %+v", p)
	}
	after, err := r.Slots(alice)
	must(t, err)
	after[0].Used = before[0].Used
	if after[0] != before[0] {
		t.Errorf("%+v became %+v", before[0], after[0])
	}
	if !f.open(t).Holds(alice) {
		t.Error("the keyring entry is stale")
	}
	must(t, r.Lock(alice))
	must(t, r.Unlock(ctx, alice, []byte("pw")))
}
