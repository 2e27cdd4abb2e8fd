package keyring

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// TestRotatingAgain bounds what rotating again and again adds to the record.
func TestRotatingAgain(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f, r := newTestRing(t)
	old := someMail(t, r)
	for range maxRetired - 1 {
		must(t, r.Rotate(ctx, alice, true, "root"))
	}
	must(t, r.Lock(alice))
	must(t, r.Rotate(ctx, alice, true, "root"))
	refused := func(when string) {
		t.Helper()
		before, err := os.ReadFile(recordPath(f, alice, "record.toml"))
		must(t, err)
		for _, identity := range []bool{false, true} {
			key, err := r.SealingKey(alice)
			must(t, err)
			if err := r.Rotate(ctx, alice, identity, "root"); !errors.Is(err, ErrRotating) {
				t.Errorf("%s: identity %v: %v", when, identity, err)
			}
			if again, err := r.SealingKey(alice); err != nil || again.ID != key.ID {
				t.Errorf("%s: another key is in use: %v", when, err)
			}
		}
		if after, err := os.ReadFile(recordPath(f, alice, "record.toml")); err != nil || string(after) != string(before) {
			t.Errorf("%s: the record was changed (%v)", when, err)
		}
	}
	refused("locked, pending")
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	if rec := r.lookup(alice).record(); len(rec.ContentKeys) != maxRetired+2 || len(rec.Identities) != maxRetired || rec.Rotation.Pending {
		t.Fatalf("%d content keys, %d identities, %+v", len(rec.ContentKeys), len(rec.Identities), rec.Rotation)
	}
	if s, err := r.Status(alice); err != nil || s.Error != "" {
		t.Errorf("%+v, %v", s, err)
	}
	refused("unlocked")
	must(t, r.Lock(alice))
	refused("locked")
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	old.open(t, r)
	must(t, r.FinishRotation(ctx, alice, seen(t, r)))
	old.gone(t, f, r)
	must(t, r.Rotate(ctx, alice, true, "root"))
}

// wiped tells whether nobody can use the key any more.
func wiped(k *secret.Key) bool {
	return errors.Is(k.Use(func([]byte) error { return nil }), secret.ErrWiped)
}

// TestDestroyedInMemory looks for keys in memory that are gone from the disk.
func TestDestroyedInMemory(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	prepare := func(t *testing.T) (*fixture, *Ring, mailKeys, map[secret.ID]*secret.Key) {
		f, r := newTestRing(t)
		old := someMail(t, r)
		must(t, r.Unlock(ctx, alice, []byte("pw")))
		must(t, r.Rotate(ctx, alice, true, "root"))
		opened := make(map[secret.ID]*secret.Key)
		for _, id := range []secret.ID{old.content, old.delivery} {
			k, err := r.OpeningKey(alice, id)
			must(t, err)
			opened[id] = k
		}
		return f, r, old, opened
	}
	t.Run("after a failure", func(t *testing.T) {
		t.Parallel()
		f, r, old, opened := prepare(t)
		x := seen(t, r)
		path := recordPath(f, alice, filepath.Join("delivery", old.delivery.String()+".toml"))
		must(t, os.Remove(path))
		must(t, os.Mkdir(path, 0o700))
		if err := r.FinishRotation(ctx, alice, x); err == nil {
			t.Fatal("nothing failed")
		}
		if !wiped(opened[old.content]) || r.lookup(alice).opening(old.content) != nil {
			t.Error("the content key that was destroyed is in memory")
		}
		must(t, os.Remove(path))
		must(t, r.FinishRotation(ctx, alice, seen(t, r)))
		if !wiped(opened[old.delivery]) || len(r.lookup(alice).opened) != 1 {
			t.Error("the delivery key that was destroyed is in memory")
		}
		old.gone(t, f, r)
	})
	t.Run("by another process", func(t *testing.T) {
		t.Parallel()
		f, r, old, opened := prepare(t)
		other := f.open(t)
		must(t, other.FinishRotation(ctx, alice, seen(t, other)))
		must(t, r.Reload(alice))
		for id, k := range opened {
			if !wiped(k) {
				t.Errorf("key %s is in memory", id)
			}
		}
		old.gone(t, f, r)
		if k, err := r.SealingKey(alice); err != nil || wiped(k.Key) {
			t.Errorf("the current key: %v", err)
		}
	})
}

// TestInPlace tells a rotation that took place from one that did not, after a failure.
func TestInPlace(t *testing.T) {
	t.Parallel()
	_, r := newTestRing(t)
	if r.inPlace(nil) {
		t.Error("nothing was changed")
	}
	loaded, err := r.records.Read(alice)
	must(t, err)
	must(t, r.rotateContent(loaded.User, false, "root"))
	if r.inPlace(loaded.User) {
		t.Error("not written yet")
	}
	var changed *records.User
	must(t, r.update(alice, func(rec *records.User) error {
		changed = rec
		return r.rotateContent(rec, false, "root")
	}))
	if !r.inPlace(changed) {
		t.Error("it was written")
	}
}
