package keyring

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

const (
	alice account.User = "alice@example.org"
	bob   account.User = "bob"
)

// cheap is the smallest that is allowed, for tests that are not about the cost.
var cheap = slot.Params{MemoryKiB: slot.MinMemoryKiB, Time: slot.MinTime, Threads: slot.MinThreads}

// fixture is one site. Its store is in memory too: these tests make thousands of changes, each with several fsyncs. Those of
// package records are about the disk.
type fixture struct {
	Options
	log *logBuffer
}

// logBuffer is a log that tests may read while others write.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func newFixture(tb testing.TB) *fixture {
	tb.Helper()
	root, err := os.MkdirTemp("/dev/shm", "mailcryptfs-test-")
	must(tb, err)
	tb.Cleanup(func() { _ = os.RemoveAll(root) })
	store, dir := filepath.Join(root, "store"), filepath.Join(root, "keyring")
	for _, d := range []string{store, dir} {
		must(tb, os.Mkdir(d, 0o700))
	}
	f := fixtureIn(tb, store, dir)
	must(tb, Setup(f.Store, f.Site, time.Now()))
	return f
}

// fixtureIn is a fixture whose directories are there.
func fixtureIn(tb testing.TB, store, dir string) *fixture {
	tb.Helper()
	s := make([]byte, 32)
	for i := range s {
		s[i] = byte(i)
	}
	keys, err := site.Derive(s)
	must(tb, err)
	tb.Cleanup(keys.Wipe)
	f := &fixture{log: new(logBuffer)}
	f.Options = Options{
		Store: store, Dir: dir, Site: keys, Params: cheap,
		Log: slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	return f
}

// time is that of the ring.
func (f *fixture) time() time.Time {
	if f.Now != nil {
		return f.Now()
	}
	return time.Now()
}

func (f *fixture) open(tb testing.TB) *Ring {
	tb.Helper()
	r, err := Open(tb.Context(), f.Options)
	must(tb, err)
	tb.Cleanup(r.Close)
	return r
}

// newRing is a ring with alice enrolled under the password "pw", locked.
func newTestRing(tb testing.TB) (*fixture, *Ring) {
	tb.Helper()
	f := newFixture(tb)
	r := f.open(tb)
	must(tb, r.Enroll(tb.Context(), alice, []byte("pw"), "test"))
	return f, r
}

// newTestRingAt is newTestRing with a clock that the test moves.
func newTestRingAt(tb testing.TB, now *time.Time) (*fixture, *Ring) {
	tb.Helper()
	f := newFixture(tb)
	f.Now = func() time.Time { return *now }
	r := f.open(tb)
	must(tb, r.Enroll(tb.Context(), alice, []byte("pw"), "test"))
	return f, r
}

func keyBytes(tb testing.TB, k *secret.Key) []byte {
	tb.Helper()
	var out []byte
	must(tb, k.Use(func(b []byte) error { out = bytes.Clone(b); return nil }))
	return out
}

func TestLife(t *testing.T) {
	t.Parallel()
	f, r := newTestRing(t)
	if err := r.Unlock(t.Context(), alice, []byte("wrong")); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("wrong password: %v", err)
	}
	if _, err := os.Stat(filepath.Join(f.Dir, "alice@example.org")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a wrong password left an entry: %v", err)
	}
	if s, err := r.Status(alice); err != nil || s.Unlocked || !s.Enrolled || s.Error == "" {
		t.Errorf("%+v, %v", s, err)
	}
	delivery, err := r.SealingKey(alice)
	must(t, err)
	deliveryKey := keyBytes(t, delivery.Key)

	password := []byte("pw")
	must(t, r.Unlock(t.Context(), alice, password))
	if !bytes.Equal(password, []byte{0, 0}) {
		t.Error("the password was not wiped")
	}
	current, err := r.SealingKey(alice)
	must(t, err)
	if current.ID == delivery.ID {
		t.Error("new content of an unlocked user goes under a delivery key")
	}
	s, err := r.Status(alice)
	if err != nil || !s.Unlocked || s.Error != "" || s.Since.IsZero() || !strings.Contains(s.By, firstLabel) || s.Until.IsZero() {
		t.Errorf("%+v, %v", s, err)
	}
	for _, ck := range []secret.ContentKey{delivery, current} {
		k, err := r.OpeningKey(alice, ck.ID)
		if err != nil || k != ck.Key {
			t.Errorf("opening: %v", err)
		}
	}
	r.Close()

	// A restart takes the user up again, and opens the delivery key by the identity.
	r = f.open(t)
	k, err := r.OpeningKey(alice, delivery.ID)
	must(t, err)
	if !bytes.Equal(keyBytes(t, k), deliveryKey) {
		t.Error("another delivery key came back")
	}
	if list := r.Unlocked(); len(list) != 1 || list[0].User != alice || !strings.Contains(list[0].By, "keyring entry") {
		t.Errorf("%+v", list)
	}
	must(t, r.Lock(alice))
	if err := k.Use(func([]byte) error { return nil }); !errors.Is(err, secret.ErrWiped) {
		t.Errorf("a key outlived the lock: %v", err)
	}
	for _, id := range []secret.ID{delivery.ID, current.ID} {
		if _, err := r.OpeningKey(alice, id); !errors.Is(err, secret.ErrLocked) {
			t.Errorf("locked: %v", err)
		}
	}
	if _, err := r.OpeningKey(alice, secret.RandomID()); !errors.Is(err, secret.ErrUnknownKey) {
		t.Errorf("unknown: %v", err)
	}
	if err := r.Lock(alice); !errors.Is(err, secret.ErrLocked) {
		t.Errorf("second Lock: %v", err)
	}
	if users, err := r.Users(); err != nil || len(users) != 1 || users[0] != alice {
		t.Errorf("%v, %v", users, err)
	}
	for _, leak := range []string{"pw\"", "wrong\"", "argon2id"} {
		if strings.Contains(f.log.String(), leak) {
			t.Errorf("the log tells %q:\n%s", leak, f.log)
		}
	}
}

func TestNotEnrolled(t *testing.T) {
	t.Parallel()
	_, r := newTestRing(t)
	_, errSeal := r.SealingKey(bob)
	_, errOpen := r.OpeningKey(bob, secret.ID{})
	for i, err := range []error{errSeal, errOpen, r.Unlock(t.Context(), bob, []byte("x"))} {
		if !errors.Is(err, secret.ErrNotEnrolled) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if err := r.Lock(bob); !errors.Is(err, secret.ErrLocked) {
		t.Errorf("Lock: %v", err)
	}
	if s, err := r.Status(bob); err != nil || s.Enrolled || s.Error != "" {
		t.Errorf("%+v, %v", s, err)
	}
	if err := r.Enroll(t.Context(), bob, nil, "test"); !errors.Is(err, ErrPassword) {
		t.Errorf("empty password: %v", err)
	}
	if err := r.Enroll(t.Context(), "a/../b", []byte("x"), "test"); !errors.Is(err, account.ErrName) {
		t.Errorf("bad name: %v", err)
	}
	if err := r.Enroll(t.Context(), alice, []byte("x"), "test"); !errors.Is(err, ErrEnrolled) {
		t.Errorf("twice: %v", err)
	}
}

// watch runs Watch until the test ends, and checks how it ends.
func watch(t *testing.T, r *Ring) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Watch(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Watch: %v", err)
		}
	})
}

// eventually waits for something that another goroutine brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to this: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	f, r := newTestRing(t)
	gone := make(chan account.User, 10)
	r.o.KeysGone = func(u account.User) { gone <- u }
	watch(t, r)
	path := filepath.Join(f.Dir, "alice@example.org")
	unlocked := func() bool { return len(r.Unlocked()) == 1 }
	must(t, r.Unlock(t.Context(), alice, []byte("pw")))
	entry, err := os.ReadFile(path)
	must(t, err)

	must(t, os.Remove(path))
	eventually(t, "a removed entry locks", func() bool { return !unlocked() })
	if u := <-gone; u != alice {
		t.Errorf("keys of %q are gone", u)
	}
	must(t, os.WriteFile(filepath.Join(f.Dir, ".temp"), entry, 0o600))
	must(t, os.Rename(filepath.Join(f.Dir, ".temp"), path))
	eventually(t, "a foreign entry unlocks", unlocked)
	must(t, os.Chmod(path, 0o644))
	eventually(t, "an entry that others may read locks", func() bool { return !unlocked() })
	eventually(t, "the reason is told", func() bool { s, _ := r.Status(alice); return strings.Contains(s.Error, "mode 0644") })
	must(t, os.Chmod(path, 0o600))
	eventually(t, "a mended entry unlocks", unlocked)
	must(t, os.WriteFile(path, []byte("garbage\n"), 0o600))
	eventually(t, "a spoilt entry locks", func() bool { return !unlocked() })
	must(t, os.Remove(path))

	// One who is not enrolled, and a name that is no user's.
	must(t, os.WriteFile(filepath.Join(f.Dir, "bob"), entry, 0o600))
	must(t, os.WriteFile(filepath.Join(f.Dir, "b%6fb"), entry, 0o600))
	eventually(t, "refused entries are logged", func() bool {
		return strings.Contains(f.log.String(), "user is not enrolled") && strings.Contains(f.log.String(), "not an escaped user name")
	})
	if s, err := r.Status(bob); err != nil || !strings.Contains(s.Error, "not enrolled") {
		t.Errorf("%+v, %v", s, err)
	}
}
