package keyring

import (
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// TestEpoch runs on a clock of its own.
func TestEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		var gone atomic.Int32
		f.KeysGone = func(account.User) { gone.Add(1) }
		f.Epoch = time.Minute
		r := f.open(t)
		must(t, r.Enroll(t.Context(), alice, []byte("pw"), "test"))

		first, err := r.SealingKey(alice)
		must(t, err)
		if _, err := os.Stat(recordPath(f, alice, "delivery/"+first.ID.String()+".toml")); err != nil {
			t.Errorf("the delivery key is not on disk: %v", err)
		}
		time.Sleep(49 * time.Second)
		same, err := r.SealingKey(alice)
		if err != nil || same != first {
			t.Errorf("another key within the epoch: %v", err)
		}
		if k, err := r.OpeningKey(alice, first.ID); err != nil || k != first.Key {
			t.Errorf("within the epoch: %v", err)
		}
		// Ten seconds before the end a new key is handed out, and the old one still works, to its end.
		time.Sleep(2 * time.Second)
		second, err := r.SealingKey(alice)
		must(t, err)
		if second.ID == first.ID || first.Key.Wiped() {
			t.Error("the key was handed out to its end, or wiped before")
		}
		time.Sleep(8 * time.Second)
		synctest.Wait()
		if first.Key.Wiped() {
			t.Error("the key was wiped before its end")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !first.Key.Wiped() || second.Key.Wiped() {
			t.Error("a key did not end with its epoch")
		}
		if n := gone.Load(); n != 1 {
			t.Errorf("KeysGone was called %d times", n)
		}
		if _, err := r.OpeningKey(alice, first.ID); !errors.Is(err, secret.ErrLocked) {
			t.Errorf("after the epoch: %v", err)
		}
		if s, err := r.Status(alice); err != nil || s.Until.IsZero() {
			t.Errorf("%+v, %v", s, err)
		}
		// After the unlock the identity opens what the daemon could not.
		must(t, r.Unlock(t.Context(), alice, []byte("pw")))
		if _, err := r.OpeningKey(alice, first.ID); err != nil {
			t.Errorf("unlocked: %v", err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if _, err := r.OpeningKey(alice, second.ID); err != nil {
			t.Errorf("the end of the epoch took a key from an unlocked user: %v", err)
		}
		r.Close()
	})
}

// TestHotPath takes the descriptors away: keys at hand need none of them, and no allocation.
func TestHotPath(t *testing.T) {
	_, r := newTestRing(t)
	must(t, r.Enroll(t.Context(), bob, []byte("pw"), "test"))
	must(t, r.Unlock(t.Context(), alice, []byte("pw")))
	_, err := r.SealingKey(bob)
	must(t, err)
	must(t, r.entries.Close())
	r.records.Close()
	for _, u := range []account.User{alice, bob} {
		allocs := testing.AllocsPerRun(100, func() {
			ck, err := r.SealingKey(u)
			if err != nil {
				t.Fatal(err)
			}
			if k, err := r.OpeningKey(u, ck.ID); err != nil || k != ck.Key {
				t.Fatal(err)
			}
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations", u, allocs)
		}
	}
}

func BenchmarkSealingKey(b *testing.B) {
	for _, unlocked := range []bool{true, false} {
		name := map[bool]string{true: "unlocked", false: "locked"}[unlocked]
		b.Run(name, func(b *testing.B) {
			_, r := newTestRing(b)
			if unlocked {
				must(b, r.Unlock(b.Context(), alice, []byte("pw")))
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.SealingKey(alice); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpeningKey(b *testing.B) {
	_, r := newTestRing(b)
	must(b, r.Unlock(b.Context(), alice, []byte("pw")))
	ck, err := r.SealingKey(alice)
	must(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.OpeningKey(alice, ck.ID); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDeliveryEpoch(b *testing.B) {
	_, r := newTestRing(b)
	m, err := r.member(alice)
	must(b, err)
	for b.Loop() {
		m.slow.Lock()
		_, err := r.newDelivery(m)
		m.slow.Unlock()
		must(b, err)
	}
}
