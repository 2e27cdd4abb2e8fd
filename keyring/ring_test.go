package keyring

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/internal/tmpfs"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

func recordPath(f *fixture, u account.User, name string) string {
	return filepath.Join(f.Store, records.DirName, "users", u.Escape(), name)
}

// update changes a record as another process would.
func (f *fixture) update(t *testing.T, u account.User, change func(*records.User) error) {
	t.Helper()
	d, err := records.Open(f.Store, f.Site.RecordMAC)
	must(t, err)
	defer d.Close()
	h, err := d.Lock(u, false)
	must(t, err)
	defer h.Release()
	must(t, h.Update(change))
}

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

// TestDamagedRecord uses the previous record, says so, and never enrols over a damaged one.
func TestDamagedRecord(t *testing.T) {
	t.Parallel()
	f, r := newTestRing(t)
	f.update(t, alice, func(rec *records.User) error { rec.Slots[0].Label = "again"; return nil })
	must(t, os.Truncate(recordPath(f, alice, "record.toml"), 300))
	again := f.open(t)
	must(t, again.Unlock(t.Context(), alice, []byte("pw")))
	s, err := again.Status(alice)
	if err != nil || !s.Unlocked || !strings.Contains(s.Error, "record.prev.toml") {
		t.Errorf("%+v, %v", s, err)
	}
	must(t, os.Truncate(recordPath(f, alice, "record.prev.toml"), 300))
	third := f.open(t)
	if s, err := third.Status(alice); err != nil || !s.Enrolled || s.Unlocked || !strings.Contains(s.Error, "damaged") {
		t.Errorf("%+v, %v", s, err)
	}
	if err := third.Enroll(t.Context(), alice, []byte("pw"), "test"); !errors.Is(err, ErrEnrolled) {
		t.Errorf("enrolled over a damaged record: %v", err)
	}
	if _, err := third.SealingKey(alice); !errors.Is(err, records.ErrCorrupt) {
		t.Errorf("sealing: %v", err)
	}
	r.Close()
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

func TestWatchEnds(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"removed": func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) },
		"opened":  func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o755)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, r := newTestRing(t)
			must(t, r.Unlock(t.Context(), alice, []byte("pw")))
			done := make(chan error, 1)
			go func() { done <- r.Watch(t.Context()) }()
			// A user who is locked and unlocked shows that the watch is there.
			must(t, os.Remove(filepath.Join(f.Dir, alice.Escape())))
			eventually(t, "the watch is there", func() bool { return len(r.Unlocked()) == 0 })
			must(t, r.Unlock(t.Context(), alice, []byte("pw")))
			spoil(t, f.Dir)
			if err := <-done; !errors.Is(err, tmpfs.ErrDir) {
				t.Errorf("got %v", err)
			}
			if len(r.Unlocked()) != 0 {
				t.Error("somebody is still unlocked")
			}
		})
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

// tree describes every file of store and keyring directory.
func tree(t *testing.T, f *fixture) string {
	t.Helper()
	var b strings.Builder
	for _, root := range []string{f.Store, f.Dir} {
		must(t, filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
			if err == nil {
				b.WriteString(path + " " + info.Mode().String() + " " + info.ModTime().Format(time.RFC3339Nano) + "\n")
			}
			return err
		}))
	}
	return b.String()
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
