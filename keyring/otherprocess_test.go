package keyring

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// TestStaleEntry changes the password behind the ring's back, and then hands it the entry of before.
func TestStaleEntry(t *testing.T) {
	t.Parallel()
	f, r := newTestRing(t)
	must(t, r.Unlock(t.Context(), alice, []byte("pw")))
	path := filepath.Join(f.Dir, alice.Escape())
	entry, err := os.ReadFile(path)
	must(t, err)
	f.update(t, alice, func(rec *records.User) error { rec.Slots[0].Wrapped[20] ^= 1; return nil })

	again := f.open(t)
	s, err := again.Status(alice)
	if err != nil || s.Unlocked || !strings.Contains(s.Error, "stale") || !strings.Contains(s.Error, path) {
		t.Errorf("%+v, %v", s, err)
	}
	if !strings.Contains(f.log.String(), "entry is stale") {
		t.Errorf("log:\n%s", f.log)
	}
	if err := again.Unlock(t.Context(), alice, []byte("pw")); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("a revoked password: %v", err)
	}
	// New mail keeps arriving.
	if _, err := again.SealingKey(alice); err != nil {
		t.Error(err)
	}
	// The entry of one user in the place of another.
	must(t, r.Enroll(t.Context(), bob, []byte("pw"), "test"))
	must(t, os.WriteFile(filepath.Join(f.Dir, "bob"), entry, 0o600))
	must(t, again.rescan(t.Context()))
	if s, err := again.Status(bob); err != nil || s.Unlocked || !strings.Contains(s.Error, "salt") {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestFollowsRecord changes records under a ring that holds them.
func TestFollowsRecord(t *testing.T) {
	t.Parallel()
	f, r := newTestRing(t)
	must(t, r.Unlock(t.Context(), alice, []byte("pw")))
	before, err := r.SealingKey(alice)
	must(t, err)
	next := secret.ContentKey{ID: secret.RandomID()}
	next.Key, err = secret.RandomKey()
	must(t, err)
	defer next.Key.Wipe()
	sealed, err := r.lookup(alice).public.Seal(alice, next)
	must(t, err)
	f.update(t, alice, func(rec *records.User) error {
		rec.ContentKeys[0].State = records.Old
		rec.ContentKeys = append(rec.ContentKeys, records.ContentKey{ID: next.ID, Created: rec.Created, State: records.Current, Sealed: sealed})
		return nil
	})
	// A key that nobody knew makes the ring look again.
	k, err := r.OpeningKey(alice, next.ID)
	must(t, err)
	if !bytes.Equal(keyBytes(t, k), keyBytes(t, next.Key)) {
		t.Error("another key came out")
	}
	if now, err := r.SealingKey(alice); err != nil || now.ID != next.ID {
		t.Errorf("new content still goes under the old key: %v", err)
	}
	if _, err := r.OpeningKey(alice, before.ID); err != nil {
		t.Errorf("the old key: %v", err)
	}
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
