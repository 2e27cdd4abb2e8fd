package keyring

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

func TestForget(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, offline := range []bool{false, true} {
		f, r := newTestRing(t)
		old := someMail(t, r)
		c, _, err := r.AddCode(ctx, alice, Proof{}, "sheet", "root")
		must(t, err)
		c.Wipe()
		forget := r.Forget
		if offline {
			r.Close()
			o, err := OpenOfflineOptions(f.Options)
			must(t, err)
			defer o.Close()
			forget = o.Forget
		}
		got, err := forget(ctx, alice, "root")
		if err != nil || got.User != alice || got.Slots != 2 || got.ContentKeys != 1 || got.Deliveries != 1 || got.By != "root" || got.Time.IsZero() {
			t.Errorf("%+v, %v", got, err)
		}
		if offline {
			r = f.open(t)
		}
		if r.Holds(alice) {
			t.Error("still unlocked")
		}
		if _, err := os.Stat(filepath.Join(f.Dir, alice.Escape())); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the keyring entry: %v", err)
		}
		if err := r.Unlock(ctx, alice, []byte("pw")); !errors.Is(err, secret.ErrNotEnrolled) {
			t.Errorf("unlock: %v", err)
		}
		if _, err := r.SealingKey(alice); !errors.Is(err, secret.ErrNotEnrolled) {
			t.Errorf("sealing: %v", err)
		}
		if _, err := forget(ctx, alice, "root"); !errors.Is(err, secret.ErrNotEnrolled) {
			t.Errorf("twice: %v", err)
		}
		if again, err := r.Forgotten(alice); err != nil || again != got {
			t.Errorf("%+v, %v", again, err)
		}
		left, err := os.ReadDir(filepath.Dir(recordPath(f, alice, "x")))
		must(t, err)
		for _, e := range left {
			if !strings.HasPrefix(e.Name(), ".lock") && e.Name() != "forgotten.toml" && e.Name() != "delivery" {
				t.Errorf("%s is left", e.Name())
			}
		}
		// The name can be used again, and the old keys stay away.
		must(t, r.EnrollAndUnlock(ctx, alice, []byte("pw"), "test"))
		if _, err := r.OpeningKey(alice, old.content); !errors.Is(err, secret.ErrUnknownKey) {
			t.Errorf("the old content key: %v", err)
		}
	}
}

// TestForgottenRecordStaysAway puts back what an interrupted Forget left.
// TestForgottenElsewhere has another host forget a user whom the ring knows: it takes that up, and enrols him again.
func TestForgottenElsewhere(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f, r := newTestRing(t)
	other := f.open(t)
	_, err := other.SealingKey(alice)
	must(t, err)
	_, err = r.Forget(ctx, alice, "root")
	must(t, err)
	if err := other.Unlock(ctx, alice, []byte("pw")); !errors.Is(err, secret.ErrNotEnrolled) {
		t.Errorf("unlock: %v", err)
	}
	if s, err := other.Status(alice); err != nil || s.Enrolled {
		t.Errorf("%+v, %v", s, err)
	}
	must(t, other.Enroll(ctx, alice, []byte("new"), "test"))
	must(t, other.Unlock(ctx, alice, []byte("new")))
}

func TestForgottenRecordStaysAway(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f, r := newTestRing(t)
	must(t, r.Enroll(ctx, bob, []byte("pw"), "test"))
	rec, err := os.ReadFile(recordPath(f, alice, "record.toml"))
	must(t, err)
	_, err = r.Forget(ctx, alice, "root")
	must(t, err)
	for _, name := range []string{"record.toml", "record.prev.toml"} {
		must(t, os.WriteFile(recordPath(f, alice, name), rec, 0o600))
		again := f.open(t)
		if err := again.Unlock(ctx, alice, []byte("pw")); !errors.Is(err, secret.ErrNotEnrolled) {
			t.Errorf("%s: %v", name, err)
		}
		if users, err := again.Users(); err != nil || len(users) != 1 {
			t.Errorf("users %v, %v", users, err)
		}
		if f, err := again.Forget(ctx, alice, "root"); err != nil || f.User != alice {
			t.Errorf("Forget does not finish: %v", err)
		}
		must(t, os.WriteFile(recordPath(f, alice, name), rec, 0o600))
	}
	must(t, f.open(t).Enroll(ctx, alice, []byte("new"), "test"))
	if f.opens(t, alice, "pw") {
		t.Error("the forgotten password opens")
	}
}

func TestUsed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	f, r := newTestRingAt(t, &now)
	used := func() time.Time {
		list, err := r.Slots(alice)
		must(t, err)
		return list[0].Used
	}
	if !used().IsZero() {
		t.Error("used before any login")
	}
	for _, step := range []struct{ pass, want time.Duration }{{0, 0}, {23 * time.Hour, 0}, {time.Hour, 24 * time.Hour}} {
		now = now.Add(step.pass)
		must(t, r.Unlock(ctx, alice, []byte("pw")))
		must(t, r.Lock(alice))
		if want := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC).Add(step.want); !used().Equal(want) {
			t.Errorf("after %v: used %v, want %v", step.pass, used(), want)
		}
	}
	// A spoilt file says nothing and keeps nobody out.
	must(t, os.WriteFile(recordPath(f, alice, "used.toml"), []byte("x"), 0o600))
	if !used().IsZero() {
		t.Error("a spoilt file was believed")
	}
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	if !used().Equal(now) {
		t.Error("a spoilt file was not replaced")
	}
}
