package keyring

import (
	"errors"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

func TestRotate(t *testing.T) {
	t.Parallel()
	for _, identity := range []bool{false, true} {
		for _, unlocked := range []bool{false, true} {
			t.Run(map[bool]string{false: "content", true: "identity"}[identity]+map[bool]string{false: " locked", true: " unlocked"}[unlocked], func(t *testing.T) {
				t.Parallel()
				testRotate(t, identity, unlocked)
			})
		}
	}
}

func testRotate(t *testing.T, identity, unlocked bool) {
	ctx := t.Context()
	f, r, ids := newRecoverable(t, true, alice)
	old := someMail(t, r)
	c, _, err := r.AddCode(ctx, alice, Proof{}, "sheet", "root")
	must(t, err)
	text, err := c.Text()
	must(t, err)
	_, err = r.AddPassword(ctx, alice, Proof{}, []byte("phone"), "phone", "root")
	must(t, err)
	if !unlocked {
		must(t, r.Lock(alice))
	}
	before := r.lookup(alice).record()
	if r.Retired(alice, old.content) || r.Retired(alice, old.delivery) {
		t.Error("retired before a rotation")
	}
	if err := r.FinishRotation(ctx, alice, Rotation{}); err != nil {
		t.Errorf("without a rotation: %v", err)
	}

	must(t, r.Rotate(ctx, alice, identity, "root"))
	if r.Holds(alice) != unlocked {
		t.Error("the rotation locked or unlocked")
	}
	now, err := r.SealingKey(alice)
	must(t, err)
	if now.ID == old.content || now.ID == old.delivery || r.Retired(alice, now.ID) {
		t.Error("new content goes under an old key")
	}
	x := seen(t, r)
	if x.By != "root" || x.Identity != identity || x.Pending != (identity && !unlocked) {
		t.Errorf("%+v", x)
	}
	if identity && !unlocked {
		if err := r.FinishRotation(ctx, alice, x); !errors.Is(err, ErrRotation) {
			t.Errorf("ended before the identity was replaced: %v", err)
		}
	}
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	if !r.Retired(alice, old.content) || !r.Retired(alice, old.delivery) {
		t.Error("old keys are not retired")
	}
	// What came between is still readable, and retired if it was sealed to an identity that is gone.
	if k, err := r.OpeningKey(alice, now.ID); err != nil {
		t.Errorf("the key of before the unlock: %v, %v", k, err)
	}
	if got, want := r.Retired(alice, now.ID), identity && !unlocked; got != want {
		t.Errorf("the key of before the unlock: retired %v", got)
	}
	old.open(t, r)
	// A restart in the middle.
	again := f.open(t)
	old.open(t, again)
	x = seen(t, again)
	if !again.Retired(alice, old.delivery) || !again.Retired(alice, old.content) || x.Pending || x.Keys < 2 {
		t.Errorf("after a restart: %+v", x)
	}
	again.Close()

	if err := r.FinishRotation(ctx, alice, Rotation{Started: x.Started.Add(-time.Second)}); !errors.Is(err, ErrRotation) {
		t.Errorf("another rotation was seen: %v", err)
	}
	old.open(t, r)
	must(t, r.FinishRotation(ctx, alice, x))
	old.gone(t, f, r)
	if _, ok, err := r.Rotation(alice); ok || err != nil {
		t.Errorf("still under way: %v", err)
	}
	rec := r.lookup(alice).record()
	if (rec.Public == before.Public) == identity || len(rec.Identities) != 0 || len(rec.ContentKeys) != 1 || len(rec.Slots) != len(before.Slots) {
		t.Errorf("identity %v, %d identities, %d content keys, %d slots", rec.Public != before.Public, len(rec.Identities), len(rec.ContentKeys), len(rec.Slots))
	}
	if _, err := r.SealingKey(alice); err != nil {
		t.Error(err)
	}
	// Every slot opens still.
	must(t, r.Lock(alice))
	must(t, r.Unlock(ctx, alice, []byte("phone")))
	must(t, r.Lock(alice))
	must(t, r.Recover(ctx, alice, Proof{Identities: ids}, []byte("x"), "root"))
	must(t, r.Recover(ctx, alice, Proof{Code: text}, []byte("y"), "root"))
	must(t, r.Unlock(ctx, alice, []byte("y")))
}

// TestRotateTwice adds a rotation to one that is under way.
func TestRotateTwice(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f, r := newTestRing(t)
	old := someMail(t, r)
	for range 3 {
		must(t, r.Rotate(ctx, alice, true, "root"))
		old.open(t, r)
	}
	first := seen(t, r)
	// Sealed to the identity of this moment, and old with the next.
	must(t, r.Lock(alice))
	delivery, err := r.SealingKey(alice)
	must(t, err)
	must(t, r.Rotate(ctx, alice, true, "root"))
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	if err := r.FinishRotation(ctx, alice, first); !errors.Is(err, ErrRotation) {
		t.Errorf("a pass of before: %v", err)
	}
	if _, err := r.OpeningKey(alice, delivery.ID); err != nil || !r.Retired(alice, delivery.ID) {
		t.Errorf("delivery key between two identities: %v", err)
	}
	must(t, r.FinishRotation(ctx, alice, seen(t, r)))
	old.gone(t, f, r)
}

// TestDeliveryInRotation makes delivery keys in the very second of a rotation.
func TestDeliveryInRotation(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	_, r := newTestRingAt(t, &now)
	before, err := r.SealingKey(alice)
	must(t, err)
	must(t, r.Rotate(ctx, alice, false, "root"))
	after, err := r.SealingKey(alice)
	must(t, err)
	if before.ID == after.ID || !r.Retired(alice, before.ID) || r.Retired(alice, after.ID) {
		t.Errorf("retired %v and %v", r.Retired(alice, before.ID), r.Retired(alice, after.ID))
	}
	if err := r.FinishRotation(ctx, alice, seen(t, r)); !errors.Is(err, ErrRotation) {
		t.Errorf("of a locked user, whose mail nobody can seal anew: %v", err)
	}
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	must(t, r.FinishRotation(ctx, alice, seen(t, r)))
	if _, err := r.OpeningKey(alice, after.ID); err != nil {
		t.Errorf("a young key was destroyed: %v", err)
	}
	if _, err := r.OpeningKey(alice, before.ID); !errors.Is(err, secret.ErrUnknownKey) {
		t.Errorf("an old key: %v", err)
	}
}

// TestDeliveryAhead has a delivery key made by a clock that is ahead, or that was set back later: a rotation retires it too,
// for it is sealed to the identity that the end of the rotation destroys.
func TestDeliveryAhead(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	_, r := newTestRingAt(t, &now)
	before, err := r.SealingKey(alice)
	must(t, err)
	now = now.Add(-time.Hour)
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	must(t, r.Rotate(ctx, alice, true, "root"))
	if !r.Retired(alice, before.ID) {
		t.Error("mail under this key would be lost with the old identity")
	}
	must(t, r.Lock(alice))
	after, err := r.SealingKey(alice)
	must(t, err)
	if r.Retired(alice, after.ID) {
		t.Error("a key of after the rotation is old")
	}
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	if _, err := r.OpeningKey(alice, before.ID); err != nil {
		t.Error(err)
	}
}

// TestCluster has another host whose ring learns of a rotation by the record.
func TestCluster(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := newFixture(t)
	now := time.Now()
	f.Cluster, f.Epoch, f.Now = true, time.Hour, func() time.Time { return now }
	r := f.open(t)
	must(t, r.Enroll(ctx, alice, []byte("pw"), "test"))
	other := f.open(t)
	if _, err := other.SealingKey(alice); err != nil {
		t.Fatal(err)
	}
	must(t, other.Unlock(ctx, alice, []byte("pw")))
	must(t, r.rescan(ctx))
	must(t, r.Rotate(ctx, alice, true, "root"))
	if err := r.FinishRotation(ctx, alice, seen(t, r)); !errors.Is(err, ErrTooSoon) {
		t.Errorf("at once: %v", err)
	}
	// The session on the other host goes on, under the new identity and the new key.
	other.reloadUnlocked()
	a, err := r.SealingKey(alice)
	must(t, err)
	b, err := other.SealingKey(alice)
	must(t, err)
	if a.ID != b.ID || !other.Holds(alice) {
		t.Error("the other host seals under another key")
	}
	now = now.Add(2*time.Hour + time.Second)
	must(t, r.FinishRotation(ctx, alice, seen(t, r)))
}
