package keyring

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// mailKeys are a content key and a delivery key of alice, with their bytes.
type mailKeys struct {
	content, delivery           secret.ID
	contentBytes, deliveryBytes []byte
}

// someMail makes a delivery key, and leaves alice unlocked.
func someMail(t *testing.T, r *Ring) mailKeys {
	t.Helper()
	d, err := r.SealingKey(alice)
	must(t, err)
	k := mailKeys{delivery: d.ID, deliveryBytes: keyBytes(t, d.Key)}
	must(t, r.Unlock(t.Context(), alice, []byte("pw")))
	c, err := r.SealingKey(alice)
	must(t, err)
	k.content, k.contentBytes = c.ID, keyBytes(t, c.Key)
	return k
}

func (k mailKeys) open(t *testing.T, r *Ring) {
	t.Helper()
	for id, want := range map[secret.ID][]byte{k.content: k.contentBytes, k.delivery: k.deliveryBytes} {
		key, err := r.OpeningKey(alice, id)
		if err != nil || !bytes.Equal(keyBytes(t, key), want) {
			t.Errorf("key %s: %v", id, err)
		}
	}
}

func (k mailKeys) gone(t *testing.T, f *fixture, r *Ring) {
	t.Helper()
	for _, id := range []secret.ID{k.content, k.delivery} {
		if _, err := r.OpeningKey(alice, id); !errors.Is(err, secret.ErrUnknownKey) {
			t.Errorf("old key %s: %v", id, err)
		}
		// Not in any file either, the previous record included.
		must(t, filepath.Walk(filepath.Join(f.Store, records.DirName), func(path string, info os.FileInfo, err error) error {
			if err != nil || info.IsDir() {
				return err
			}
			if b, err := os.ReadFile(path); err != nil || bytes.Contains(b, []byte(id.String())) || strings.Contains(path, id.String()) {
				t.Errorf("%s still names key %s: %v", path, id, err)
			}
			return nil
		}))
	}
}

func seen(t *testing.T, r *Ring) Rotation {
	t.Helper()
	x, ok, err := r.Rotation(alice)
	if err != nil || !ok {
		t.Fatalf("no rotation: %v", err)
	}
	return x
}

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
	f := newFixture(t)
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	f.Now = func() time.Time { return now }
	r := f.open(t)
	must(t, r.Enroll(ctx, alice, []byte("pw"), "test"))
	before, err := r.SealingKey(alice)
	must(t, err)
	must(t, r.Rotate(ctx, alice, false, "root"))
	after, err := r.SealingKey(alice)
	must(t, err)
	if before.ID == after.ID || !r.Retired(alice, before.ID) || r.Retired(alice, after.ID) {
		t.Errorf("retired %v and %v", r.Retired(alice, before.ID), r.Retired(alice, after.ID))
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

// addFutureSlot gives a record a slot of a kind that a later program made.
func addFutureSlot(t *testing.T, f *fixture, u account.User) {
	t.Helper()
	path := recordPath(f, u, "record.toml")
	b, err := os.ReadFile(path)
	must(t, err)
	_, body, _ := bytes.Cut(b, []byte("\n"))
	body = append(body, "\n[[slot]]\nid = \"aaaaaaaaaaaaaaaa\"\nkind = \"retina\"\nlabel = \"eye\"\n"+
		"created = 2026-01-02T03:04:05Z\ncreated_by = \"root\"\nmore = 1\n"...)
	must(t, f.Site.RecordMAC.Use(func(key []byte) error {
		h := hmac.New(sha256.New, key)
		h.Write([]byte("mailcryptfs record v1\x00mailcryptfs user record\x00"))
		h.Write(body)
		return os.WriteFile(path, append(fmt.Appendf(nil, "mac = \"%x\"\n", h.Sum(nil)), body...), 0o600)
	}))
}

// TestFutureSlot keeps what it does not know, and does not replace the identity under it.
func TestFutureSlot(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f, r := newTestRing(t)
	addFutureSlot(t, f, alice)
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	if err := r.Rotate(ctx, alice, true, "root"); !errors.Is(err, ErrUnknownSlot) {
		t.Errorf("a new identity: %v", err)
	}
	if _, ok, err := r.Rotation(alice); ok || err != nil {
		t.Errorf("a rotation is under way: %v", err)
	}
	must(t, r.Rotate(ctx, alice, false, "root"))
	list, err := r.Slots(alice)
	must(t, err)
	if len(list) != 2 || list[1].Kind != "retina" || list[1].Label != "eye" {
		t.Errorf("%+v", list)
	}
	// Nobody knows whether it opens: it does not count as the last.
	if err := r.Revoke(ctx, alice, list[0].ID, false, "root"); !errors.Is(err, ErrLastSlot) {
		t.Errorf("the last slot that is known: %v", err)
	}
	// Asked for while locked, it has to wait; mail is served all the same.
	must(t, r.Lock(alice))
	must(t, r.Rotate(ctx, alice, true, "root"))
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	if s, err := r.Status(alice); err != nil || !s.Unlocked || !strings.Contains(s.Error, "retina") || !seen(t, r).Pending {
		t.Errorf("%+v, %v", s, err)
	}
	must(t, r.Revoke(ctx, alice, list[1].ID, false, "root"))
	must(t, r.Lock(alice))
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	if s, err := r.Status(alice); err != nil || s.Error != "" || seen(t, r).Pending {
		t.Errorf("%+v, %v", s, err)
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
	f := newFixture(t)
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	f.Now = func() time.Time { return now }
	r := f.open(t)
	must(t, r.Enroll(ctx, alice, []byte("pw"), "test"))
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
