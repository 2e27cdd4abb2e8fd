package keyring

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// TestKnownPassword blocks every derivation: only what needs none gets through.
func TestKnownPassword(t *testing.T) {
	t.Parallel()
	f, r := newTestRing(t)
	must(t, r.Unlock(t.Context(), alice, []byte("pw")))
	for range cap(r.derive) {
		r.derive <- struct{}{}
	}
	must(t, r.Unlock(t.Context(), alice, []byte("pw")))
	short := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	expired := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", what, err)
		}
	}
	expired("another password", r.Unlock(short(), alice, []byte("other")))
	expired("enrolment", r.Enroll(short(), bob, []byte("pw"), "test"))
	// The entry is the truth, even before its removal was noticed.
	must(t, os.Remove(filepath.Join(f.Dir, alice.Escape())))
	expired("removed entry", r.Unlock(short(), alice, []byte("pw")))
	<-r.derive
	must(t, r.Unlock(t.Context(), alice, []byte("pw")))
	must(t, r.Lock(alice))
	r.derive <- struct{}{}
	expired("after a lock", r.Unlock(short(), alice, []byte("pw")))
}

// TestLockTells checks that whoever depends on the keys knows that they are gone before Lock returns.
func TestLockTells(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	told := 0
	f.KeysGone = func(account.User) { told++ } // a race if another goroutine called it
	r := f.open(t)
	must(t, r.EnrollAndUnlock(t.Context(), alice, []byte("pw"), "test"))
	if must(t, r.Lock(alice)); told != 1 {
		t.Errorf("told %d times", told)
	}
	if err := r.Lock(alice); !errors.Is(err, secret.ErrLocked) || told != 1 {
		t.Errorf("%v, told %d times", err, told)
	}
}

// TestLockUnused locks nobody who has logged in since he was looked at.
func TestLockUnused(t *testing.T) {
	t.Parallel()
	f, r := newTestRing(t)
	used := func() time.Time { return r.Unlocked()[0].Used }
	lock := func(used time.Time, want bool) {
		t.Helper()
		if got, err := r.LockUnused(alice, used, "test"); got != want || err != nil || want == r.Holds(alice) {
			t.Errorf("locked %v, %v; unlocked %v", got, err, r.Holds(alice))
		}
	}
	must(t, r.Unlock(t.Context(), alice, []byte("pw")))
	first := used()
	must(t, r.Unlock(t.Context(), alice, []byte("pw"))) // recognised
	second := used()
	lock(first, false)
	must(t, r.Lock(alice))
	must(t, r.Unlock(t.Context(), alice, []byte("pw")))
	lock(second, false)
	must(t, r.Unlock(t.Context(), alice, []byte("pw")))
	lock(used(), true)
	if _, err := os.Stat(filepath.Join(f.Dir, alice.Escape())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the entry: %v", err)
	}
	if got, err := r.LockUnused(alice, second, "test"); got || err != nil {
		t.Errorf("of a locked user: %v, %v", got, err)
	}
}

// TestManyLogins measures by the memory that was allocated that many logins of a user cost one derivation.
func TestManyLogins(t *testing.T) {
	f := newFixture(t)
	f.Params = slot.Params{MemoryKiB: 64 << 10, Time: 1, Threads: 1}
	r := f.open(t)
	must(t, r.Enroll(t.Context(), alice, []byte("pw"), "test"))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			if err := r.Unlock(t.Context(), alice, []byte("pw")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n < 64 || n > 120 {
		t.Errorf("30 logins allocated %d MiB, one derivation takes 64", n)
	}
}

func BenchmarkUnlockFirst(b *testing.B) {
	f := newFixture(b)
	f.Params = slot.Default
	r := f.open(b)
	must(b, r.Enroll(b.Context(), alice, []byte("pw"), "test"))
	for b.Loop() {
		must(b, r.Unlock(b.Context(), alice, []byte("pw")))
		b.StopTimer()
		must(b, r.Lock(alice))
		b.StartTimer()
	}
}

func BenchmarkUnlockAgain(b *testing.B) {
	_, r := newTestRing(b)
	must(b, r.Unlock(b.Context(), alice, []byte("pw")))
	for b.Loop() {
		must(b, r.Unlock(b.Context(), alice, []byte("pw")))
	}
}

// TestOneDerivation measures by the memory that was allocated that a login costs one derivation however many slots there
// are, whether the password opens the first, the last or none.
func TestOneDerivation(t *testing.T) {
	f := newFixture(t)
	f.Params = slot.Params{MemoryKiB: 32 << 10, Time: 1, Threads: 1}
	r := f.open(t)
	ctx := t.Context()
	must(t, r.Enroll(ctx, alice, []byte("first"), "test"))
	f.update(t, alice, func(rec *records.User) error {
		for range 40 {
			s := rec.Slots[0]
			s.ID = slot.RandomID() // opens with no password, but is tried
			rec.Slots = append(rec.Slots, s)
		}
		return nil
	})
	_, err := r.AddPassword(ctx, alice, pw("first"), []byte("last"), "", "test")
	must(t, err)
	for password, want := range map[string]error{"first": nil, "last": nil, "none": ErrWrongSecret} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := r.Unlock(ctx, alice, []byte(password)); !errors.Is(err, want) {
			t.Errorf("%s: %v", password, err)
		}
		runtime.ReadMemStats(&after)
		if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n < 32 || n > 50 {
			t.Errorf("%s: %d MiB were allocated, one derivation takes 32", password, n)
		}
		if want == nil {
			must(t, r.Lock(alice))
		}
	}
}
