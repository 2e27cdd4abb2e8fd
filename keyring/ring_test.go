package keyring

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/internal/tmpfs"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	other, err := site.Derive(bytes.Repeat([]byte{9}, 32))
	must(t, err)
	defer other.Wipe()
	for name, tt := range map[string]struct {
		change func(o *Options)
		want   error
	}{
		"directory on disk": {func(o *Options) { o.Dir = t.TempDir() }, tmpfs.ErrDir},
		"other site secret": {func(o *Options) { o.Site = other }, records.ErrMAC},
		"not set up":        {func(o *Options) { o.Store = t.TempDir() }, records.ErrNotFound},
		"parameters":        {func(o *Options) { o.Params = slot.Params{MemoryKiB: 1, Time: 1, Threads: 1} }, slot.ErrParams},
	} {
		o := f.Options
		tt.change(&o)
		if _, err := Open(t.Context(), o); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Setup(f.Store, f.Site, time.Now()); !errors.Is(err, records.ErrExists) {
		t.Errorf("second Setup: %v", err)
	}
}

// TestEnrollOnce enrols one user from many rings at once, as many processes would.
func TestEnrollOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var wg sync.WaitGroup
	var enrolled atomic.Int32
	for range 4 {
		r := f.open(t)
		for range 2 {
			wg.Go(func() {
				err := r.EnrollAndUnlock(t.Context(), alice, []byte("pw"), "test")
				if err == nil {
					enrolled.Add(1)
				} else if !errors.Is(err, ErrEnrolled) {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if n := enrolled.Load(); n != 1 {
		t.Errorf("enrolled %d times", n)
	}
	r := f.open(t)
	if s, err := r.Status(alice); err != nil || !s.Unlocked {
		t.Errorf("%+v, %v", s, err)
	}
	must(t, r.Lock(alice))
	must(t, r.Unlock(t.Context(), alice, []byte("pw")))
}

// TestLongName has an entry whose name is a hash.
func TestLongName(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.open(t)
	long := account.User(strings.Repeat("lang/", 100) + "x")
	must(t, r.EnrollAndUnlock(t.Context(), long, []byte("pw"), "test"))
	again := f.open(t)
	if list := again.Unlocked(); len(list) != 1 || list[0].User != long {
		t.Errorf("%+v", list)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	f, r := newTestRing(t)
	must(t, r.Enroll(t.Context(), bob, []byte("pw"), "test"))
	must(t, r.Unlock(t.Context(), alice, []byte("pw")))
	current, err := r.SealingKey(alice)
	must(t, err)
	delivery, err := r.SealingKey(bob)
	must(t, err)
	r.Close()
	r.Close()
	if !current.Key.Wiped() || !delivery.Key.Wiped() {
		t.Error("a key outlived the ring")
	}
	if _, err := os.Stat(filepath.Join(f.Dir, alice.Escape())); err != nil {
		t.Errorf("the entry is gone: %v", err)
	}
}

// TestUproar does everything at once; the race detector and the final state are the judges.
func TestUproar(t *testing.T) {
	t.Parallel()
	f, r := newTestRing(t)
	r.o.Epoch = 5 * time.Millisecond
	r.o.KeysGone = func(u account.User) { _, _ = r.Status(u) }
	watch(t, r)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	work := func(f func() error, allowed ...error) {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				err := f()
				ok := err == nil
				for _, a := range allowed {
					ok = ok || errors.Is(err, a)
				}
				if !ok {
					t.Error(err)
					return
				}
			}
		})
	}
	var mu sync.Mutex
	ids := []secret.ID{secret.RandomID()}
	work(func() error {
		ck, err := r.SealingKey(alice)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if ids[len(ids)-1] != ck.ID && len(ids) < 50 {
			ids = append(ids, ck.ID)
		}
		return ck.Key.Use(func([]byte) error { return nil })
	}, secret.ErrWiped)
	for range 2 {
		work(func() error {
			mu.Lock()
			id := ids[time.Now().UnixNano()%int64(len(ids))]
			mu.Unlock()
			k, err := r.OpeningKey(alice, id)
			if err != nil {
				return err
			}
			return k.Use(func([]byte) error { return nil })
		}, secret.ErrLocked, secret.ErrUnknownKey, secret.ErrWiped)
	}
	work(func() error { return r.Unlock(t.Context(), alice, []byte("pw")) })
	work(func() error { return r.Unlock(t.Context(), alice, []byte("no")) }, ErrWrongSecret)
	work(func() error { time.Sleep(3 * time.Millisecond); return r.Lock(alice) }, secret.ErrLocked)
	work(func() error { time.Sleep(5 * time.Millisecond); return os.Remove(filepath.Join(f.Dir, alice.Escape())) }, os.ErrNotExist)
	work(func() error { r.Unlocked(); _, err := r.Users(); return err })
	time.Sleep(time.Second) // how long, and nothing else, hangs on this
	close(stop)
	wg.Wait()
	must(t, r.Unlock(t.Context(), alice, []byte("pw")))
	mu.Lock()
	defer mu.Unlock()
	for _, id := range ids[1:] {
		if _, err := r.OpeningKey(alice, id); err != nil {
			t.Errorf("a key that was handed out is lost: %v", err)
		}
	}
}
