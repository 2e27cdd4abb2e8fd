package audit

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

// exampleKeys are the keys of the site secret of the examples in FORMAT.md.
func exampleKeys(t testing.TB) *site.Keys {
	t.Helper()
	s := make([]byte, secret.Size)
	for i := range s {
		s[i] = byte(i)
	}
	k, err := site.Derive(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

// bench is a store with a log.
type bench struct {
	t     testing.TB
	store string
	keys  *site.Keys
	said  *bytes.Buffer // what the log of the program got
	clock time.Time
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{t: t, store: t.TempDir(), keys: exampleKeys(t), said: new(bytes.Buffer), clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	if err := os.Mkdir(filepath.Join(b.store, recordsName), 0o700); err != nil {
		t.Fatal(err)
	}
	return b
}

// open returns a log whose clock goes on by a second with each look at it.
func (b *bench) open(host string) *Log {
	b.t.Helper()
	l, err := Open(b.store, b.keys, slog.New(slog.NewTextHandler(b.said, nil)))
	if err != nil {
		b.t.Fatal(err)
	}
	l.host = host
	l.now = func() time.Time {
		b.clock = b.clock.Add(time.Second)
		return b.clock
	}
	b.t.Cleanup(func() { _ = l.Close() }) // again, where a test has not
	return l
}

func (b *bench) append(l *Log, events ...Event) {
	b.t.Helper()
	for _, e := range events {
		if err := l.Append(e); err != nil {
			b.t.Fatal(err)
		}
	}
}

// some writes one event each of a few kinds, durable ones and others.
func (b *bench) some(l *Log, n int) {
	b.t.Helper()
	for i := range n {
		e := Event{User: "alice", What: Unlock, Cause: "login", Peer: "imap"}
		if i%3 == 0 {
			e = Event{User: "bob", What: SlotAdd, By: "root", Detail: fmt.Sprintf("telephone %d", i)}
		}
		b.append(l, e)
	}
}

func (b *bench) path(name string) string { return filepath.Join(b.store, recordsName, dirName, name) }

// lines returns the lines of a segment, with their newlines.
func (b *bench) lines(name string) []string {
	b.t.Helper()
	content, err := os.ReadFile(b.path(name))
	if err != nil {
		b.t.Fatal(err)
	}
	all := strings.SplitAfter(string(content), "\n")
	return all[:len(all)-1]
}

func (b *bench) write(name string, lines []string) {
	b.t.Helper()
	if err := os.WriteFile(b.path(name), []byte(strings.Join(lines, "")), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) events(u account.User) []Event {
	b.t.Helper()
	var all []Event
	if err := Read(b.store, b.keys, u, func(e Event) error { all = append(all, e); return nil }); err != nil {
		b.t.Fatal(err)
	}
	return all
}

func (b *bench) verify() Summary {
	b.t.Helper()
	s, err := Verify(b.store, b.keys)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func kinds(s Summary) []string {
	var all []string
	for _, p := range s.Problems {
		all = append(all, p.Kind)
	}
	return all
}

func (b *bench) wantKinds(want ...string) Summary {
	b.t.Helper()
	s := b.verify()
	if got := kinds(s); !slices.Equal(got, want) {
		b.t.Errorf("problems %+v, want kinds %v", s.Problems, want)
	}
	return s
}

func TestAppendAndRead(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	l := b.open("mx1")
	long := strings.Repeat("ä", 700)
	in := []Event{
		{User: "alice@example.org", What: Enroll, By: "root", Cause: "mailcryptfs enroll"},
		{User: "alice@example.org", What: Unlock, Cause: "login", Peer: "imap <&> \"quoted\"\n\u2028"},
		{User: "b\xffb", What: Lock, Cause: "idle"},
		{User: "alice@example.org", What: Export, Detail: long, By: "x\xffy"},
		{What: Drill},
	}
	b.append(l, in...)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(in[0]); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	got := b.events("")
	if len(got) != 1+len(in) || got[0].What != Begin {
		t.Fatalf("%d events: %+v", len(got), got)
	}
	in[3].Detail, in[3].By = strings.Repeat("ä", 512), "x\uFFFDy"
	for i, e := range got[1:] {
		want := in[i]
		want.Time, want.Host = e.Time, "mx1"
		if e != want {
			t.Errorf("got %+v, want %+v", e, want)
		}
		if e.Time.Before(got[i].Time) || e.Time.Year() != 2026 {
			t.Errorf("time %v after %v", e.Time, got[i].Time)
		}
	}
	if own := b.events("alice@example.org"); len(own) != 3 {
		t.Errorf("alice's events: %+v", own)
	}
	if own := b.events("b\xffb"); len(own) != 1 || own[0].What != Lock {
		t.Errorf("events of a name that is not UTF-8: %+v", own)
	}
	if s := b.wantKinds(); s.Lines != 6 || s.Segments != 1 || s.Hosts != 1 {
		t.Errorf("%+v", s)
	}
	for name, want := range map[string]os.FileMode{"": 0o700 | os.ModeDir, "2026-01.mx1.log": 0o600, "mx1.head": 0o600} {
		if st, err := os.Stat(b.path(name)); err != nil || st.Mode() != want {
			t.Errorf("%q: %v, %v", name, st.Mode(), err)
		}
	}
}

func TestNoLog(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if got := b.events(""); len(got) > 0 {
		t.Errorf("%v", got)
	}
	b.wantKinds()
	l := b.open("mx1")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(b.path("")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a log was made without an event: %v", err)
	}
	if _, err := Open(t.TempDir(), b.keys, slog.Default()); err == nil {
		t.Error("a directory that is no store was taken")
	}
}

// TestSegments follows a chain over months, with clocks that go wrong and processes that come and go.
func TestSegments(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, month := range []time.Month{1, 2, 2, 4, 3, 4} { // the clock went back once: the segment stays that of April
		b.clock = time.Date(2026, month, 2, 3, 4, 5, 0, time.UTC)
		l := b.open("mx1")
		b.some(l, 3)
		if month != 2 {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := b.wantKinds()
	if s.Segments != 3 || s.Lines != 3+6*3 {
		t.Errorf("%+v", s)
	}
	first := b.lines("2026-02.mx1.log")[0]
	last := b.lines("2026-01.mx1.log")
	tail := strings.TrimSuffix(last[len(last)-1], "\"}\n")
	mac := tail[len(tail)-2*macSize:]
	if !strings.Contains(first, `"prev":"`+mac+`"`) || !strings.HasPrefix(first, `{"log":"mailcryptfs audit log","version":1,"seq":5,`) {
		t.Errorf("the first line of a segment is %s after %s", first, mac)
	}
}

// TestShared lets processes of two hosts append at once, as daemons and offline verbs do.
func TestShared(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const writers, each = 6, 40
	var all sync.WaitGroup
	for i := range writers {
		l, err := Open(b.store, b.keys, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		l.host, l.wait = fmt.Sprintf("mx%d", i%2), time.Minute // the others write without a pause, as nobody else does
		all.Go(func() {
			for n := range each {
				what := Unlock
				if n%16 == 0 {
					what = SlotAdd
				}
				if err := l.Append(Event{User: account.User(fmt.Sprintf("u%d", i)), What: what}); err != nil {
					t.Error(err)
				}
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if s := b.wantKinds(); s.Hosts != 2 || s.Lines != writers*each+2 {
		t.Errorf("%+v", s)
	}
	if got := b.events("u3"); len(got) != each {
		t.Errorf("%d events of u3", len(got))
	}
	if !slices.IsSortedFunc(b.events(""), func(a, b Event) int { return a.Time.Compare(b.Time) }) {
		t.Error("events are not in the order of time")
	}
}

func TestReadEnds(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.some(b.open("mx1"), 3)
	stop := errors.New("enough")
	n := 0
	if err := Read(b.store, b.keys, "", func(Event) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
}

func TestWiped(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	l := b.open("mx1")
	b.some(l, 1)
	b.keys.Audit.Wipe()
	if err := l.Append(Event{What: Unlock}); !errors.Is(err, secret.ErrWiped) {
		t.Errorf("Append: %v", err)
	}
	if _, err := Verify(b.store, b.keys); !errors.Is(err, secret.ErrWiped) {
		t.Errorf("Verify: %v", err)
	}
}
