package session

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// told is a Source that says what it is told.
type told struct {
	name    string
	users   map[account.User]string
	err     error
	decides bool
}

func (s *told) Name() string { return s.name }

func (s *told) Decides(account.User) bool { return s.decides }

func (s *told) InUse(context.Context, []account.User) (map[account.User]string, error) {
	return s.users, s.err
}

// world is what a Keeper of a test sees.
type world struct {
	*Keeper
	now      time.Time
	unlocked []Unlocked
	locked   []account.User
	lockErr  error
	pending  string
	between  func() // called between the judgement and the lock
	log      bytes.Buffer
}

func newWorld(limit time.Duration, sources ...Source) *world {
	w := &world{now: time.Unix(1e9, 0)}
	w.Keeper = New(Options{
		Sources:  sources,
		Unlocked: func() []Unlocked { return slices.Clone(w.unlocked) },
		Lock: func(u Unlocked, _ string) (bool, error) {
			if w.between != nil {
				w.between()
			}
			if w.lockErr != nil {
				return false, w.lockErr
			}
			before := len(w.unlocked)
			w.unlocked = slices.DeleteFunc(w.unlocked, func(x Unlocked) bool { return x.User == u.User && (u.Used.IsZero() || x == u) })
			if len(w.unlocked) == before {
				return false, nil
			}
			w.locked = append(w.locked, u.User)
			return true, nil
		},
		Pending: func(account.User) string { return w.pending },
		Grace:   time.Minute, Cap: limit,
		Now: func() time.Time { return w.now },
		Log: slog.New(slog.NewTextHandler(&w.log, nil)),
	})
	return w
}

func (w *world) unlock(u account.User) {
	w.unlocked = append(w.unlocked, Unlocked{u, w.now, w.now})
}

// login notes a login of an unlocked user.
func (w *world) login(u account.User) {
	for i := range w.unlocked {
		if w.unlocked[i].User == u {
			w.unlocked[i].Used = w.now
		}
	}
}

// after lets time pass and takes a step; it returns who was locked by it.
func (w *world) after(t *testing.T, d time.Duration) []account.User {
	t.Helper()
	w.now = w.now.Add(d)
	w.locked = nil
	w.Step(t.Context())
	return w.locked
}

func TestLocksAfterGrace(t *testing.T) {
	t.Parallel()
	s := &told{name: "server", users: map[account.User]string{"a": "imap 1"}, decides: true}
	w := newWorld(0, s)
	w.unlock("a")
	if got := w.after(t, time.Hour); got != nil || w.View("a").Because != "imap 1" {
		t.Fatalf("%v, %+v", got, w.View("a"))
	}
	s.users = nil
	if got := w.after(t, 59*time.Second); got != nil || !w.View("a").LockAt.Equal(w.now.Add(time.Second)) {
		t.Fatalf("%v, %+v", got, w.View("a"))
	}
	s.users = map[account.User]string{"a": "imap 2"}
	if got := w.after(t, time.Hour); got != nil {
		t.Fatalf("locked though in use again: %v", got)
	}
	s.users = nil
	if got := w.after(t, 60*time.Second); !slices.Equal(got, []account.User{"a"}) {
		t.Fatalf("not locked: %v", got)
	}
	if w.View("a") != (View{}) {
		w.Step(t.Context())
		if w.View("a") != (View{}) {
			t.Error("a locked user is remembered")
		}
	}
	if !strings.Contains(w.log.String(), "after_last_use=1m0s") {
		t.Errorf("log: %s", &w.log)
	}
}

func TestUnlockCountsAsUse(t *testing.T) {
	t.Parallel()
	w := newWorld(0, &told{name: "s", decides: true})
	w.unlock("a")
	if got := w.after(t, 59*time.Second); got != nil {
		t.Fatal("locked before the first session could begin")
	}
	if got := w.after(t, time.Second); len(got) != 1 {
		t.Fatal("not locked")
	}
	w.unlock("a") // again: another unlock, another grace
	if got := w.after(t, 59*time.Second); got != nil {
		t.Fatal("the grace of an earlier unlock counts")
	}
	w.login("a") // of an unlocked user: its session may not be known yet
	if got := w.after(t, 59*time.Second); got != nil {
		t.Fatal("locked before the session of a login could begin")
	}
	if got := w.after(t, time.Second); len(got) != 1 {
		t.Fatal("not locked after a login without a session")
	}
}

func TestSourceThatFails(t *testing.T) {
	t.Parallel()
	s := &told{name: "server", err: errors.New("permission denied"), decides: true}
	w := newWorld(3*time.Hour, s)
	w.unlock("a")
	for range 3 {
		if got := w.after(t, 30*time.Minute); got != nil {
			t.Fatal("locked though nobody knows")
		}
	}
	if got := w.View("a").Because; got != "server does not answer" {
		t.Error(got)
	}
	if n := strings.Count(w.log.String(), "permission denied"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if w.Problems()["server"] == nil {
		t.Error("no problem is known")
	}
	s.err = nil
	if w.after(t, 30*time.Second); strings.Count(w.log.String(), "answers again") != 1 || len(w.Problems()) != 0 {
		t.Errorf("log: %s", &w.log)
	}
	s.err = errors.New("again")
	if got := w.after(t, 2*time.Hour); len(got) != 1 {
		t.Error("a source that fails holds users beyond the cap")
	}
}

func TestNobodyDecides(t *testing.T) {
	t.Parallel()
	w := newWorld(0, &told{name: "files"})
	w.unlock("a")
	if got := w.after(t, 100*time.Hour); got != nil {
		t.Error("locked with no source of sessions")
	}
}

func TestPendingHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(0, &told{name: "s", decides: true})
	w.unlock("a")
	w.pending = "5 entries are left to encrypt"
	if got := w.after(t, time.Hour); got != nil || w.View("a").Because != w.pending {
		t.Fatalf("%v, %+v", got, w.View("a"))
	}
	w.pending = ""
	if got := w.after(t, time.Second); len(got) != 1 {
		t.Error("not locked when the work was done")
	}
}

func TestCap(t *testing.T) {
	t.Parallel()
	s := &told{name: "s", users: map[account.User]string{"a": "x", "b": "x"}, decides: true}
	w := newWorld(2*time.Hour, s)
	w.pending = "work"
	w.unlock("a")
	w.after(t, time.Hour)
	w.unlock("b")
	if got := w.View("a").LockAt; !got.Equal(w.now.Add(time.Hour)) {
		t.Errorf("will be locked at %v", got)
	}
	if got := w.after(t, time.Hour); !slices.Equal(got, []account.User{"a"}) {
		t.Errorf("locked %v", got)
	}
}

func TestLockThatComesToNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(0, &told{name: "s", decides: true})
	w.unlock("a")
	w.between = func() { w.login("a") }
	if got := w.after(t, time.Hour); got != nil || w.log.Len() != 0 {
		t.Errorf("locked %v; log: %s", got, &w.log)
	}
	w.between = nil
	w.now = w.now.Add(time.Hour)
	w.lockErr = errors.New("disk")
	if w.after(t, time.Second); !strings.Contains(w.log.String(), "disk") {
		t.Errorf("log: %s", &w.log)
	}
}

func TestEndOfContextLocksNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(0, &told{name: "s", decides: true})
	w.unlock("a")
	w.now = w.now.Add(time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if w.Step(ctx); w.locked != nil {
		t.Error("locked by a step that was cut short")
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	w := newWorld(0, &told{name: "s", decides: true})
	w.unlock("a")
	w.now = w.now.Add(time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	tick, done := make(chan time.Time), make(chan struct{})
	go func() { w.Run(ctx, tick); close(done) }()
	tick <- w.now
	tick <- w.now // is taken when the first step is over
	cancel()
	<-done
	if len(w.locked) != 1 {
		t.Errorf("locked %v", w.locked)
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	last := now.Add(-10 * time.Minute)
	open := map[account.User]int{"a": 0, "b": 1, "c": 7}
	f := &Files{Use: func(u account.User) (int, time.Time) { return open[u], last }, Now: func() time.Time { return now }}
	got, err := f.InUse(t.Context(), []account.User{"a", "b", "c"})
	if err != nil || len(got) != 2 || got["b"] != "1 open file" || got["c"] != "7 open files" || f.Decides("a") {
		t.Errorf("%v, %v", got, err)
	}
	f.Idle = 11 * time.Minute
	if got, _ := f.InUse(t.Context(), []account.User{"a"}); got["a"] == "" || !f.Decides("a") {
		t.Errorf("%v", got)
	}
	f.Idle = 10 * time.Minute
	if got, _ := f.InUse(t.Context(), []account.User{"a"}); got["a"] != "" {
		t.Errorf("%v", got)
	}
}
