package unlock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/pam/wire"
)

func TestRequestsReachTheUnlocker(t *testing.T) {
	r := new(recorder)
	socket, j, stop := start(t, r, Options{})
	long := strings.Repeat("x", 1024)
	for _, request := range []wire.Request{
		login("alice", "correct horse"),
		login("o'neil%x y@exämple.org", "p%s @/\t\xff"),
		login(long, long),
		{Kind: wire.Change, User: "alice", Old: []byte("old"), Password: []byte("new")},
		{Kind: wire.Reset, User: "alice", Password: []byte("new")},
	} {
		if a := ask(t, socket, request); a != (wire.Answer{}) {
			t.Errorf("%v: %v", request, a)
		}
	}
	stop()
	want := []string{
		`login "alice" "imap" "192.0.2.1" "correct horse"`,
		`login "o'neil%x y@exämple.org" "imap" "192.0.2.1" "p%s @/\t\xff"`,
		fmt.Sprintf(`login %q "imap" "192.0.2.1" %q`, long, long),
		`change "alice" "old" "new"`,
		`reset "alice" "new"`,
	}
	if got := r.seen(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if log := j.String(); strings.Contains(log, "horse") || strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
		t.Errorf("log: %s", log)
	}
}

func TestErrorsBecomeStatuses(t *testing.T) {
	for _, c := range []struct {
		err  error
		want wire.Status
	}{
		{nil, wire.OK},
		{secret.ErrNotEnrolled, wire.NotEnrolled},
		{ErrWrongSecret, wire.WrongSecret},
		{ErrBusy, wire.Busy},
		{errors.New("disk full"), wire.Failed},
		{io.EOF, wire.Failed},
		{context.Canceled, wire.Failed},
	} {
		r := &recorder{reply: func(context.Context) error {
			if c.err == nil {
				return nil
			}
			return fmt.Errorf("user alice: %w", c.err)
		}}
		socket, _, _ := start(t, r, Options{Connections: 3}) // an answer comes a little before its page is free again
		for _, request := range []wire.Request{
			login("alice", "pw"),
			{Kind: wire.Change, User: "alice", Old: []byte("old"), Password: []byte("new")},
			{Kind: wire.Reset, User: "alice", Password: []byte("new")},
		} {
			a := ask(t, socket, request)
			if a.Status != c.want || (a.Text == "") != (c.want == wire.OK) || strings.Contains(a.Text, "disk") {
				t.Errorf("%v, %v: got %v", request.Kind, c.err, a)
			}
		}
	}
}

func TestEveryAnswerCanBeSent(t *testing.T) {
	for kind := range wire.Kind(5) {
		for status := range wire.Status(9) {
			if _, err := (wire.Answer{Status: status, Text: text(kind, status)}).Append(nil); err != nil {
				t.Errorf("%v, %v: %v", kind, status, err)
			}
		}
	}
}

// TestPanicCostsOneRequest has the Unlocker make a mistake: this request fails, gives back its turn, and the next is served.
func TestPanicCostsOneRequest(t *testing.T) {
	const mistakes = 3
	r := new(recorder)
	r.reply = func(context.Context) error {
		if len(r.seen()) <= mistakes {
			panic("index out of range")
		}
		return nil
	}
	socket, j, _ := start(t, r, Options{Working: 1})
	for range mistakes {
		if a := ask(t, socket, login("alice", "the password")); a.Status != wire.Failed {
			t.Errorf("the answer to a request that panics: %v", a.Status)
		}
	}
	if log := j.String(); strings.Count(log, "please report it") != mistakes || !strings.Contains(log, "index out of range") ||
		!strings.Contains(log, "unlock_test.go") || strings.Contains(log, "the password") {
		t.Errorf("the log of panics: %s", log)
	}
	if a := ask(t, socket, login("alice", "pw")); a.Status != wire.OK {
		t.Errorf("after panics: %v", a.Status)
	}
}

func TestRequestOutlivesItsClient(t *testing.T) {
	entered, leave, finished := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	r := &recorder{reply: func(ctx context.Context) error {
		close(entered)
		<-leave
		finished <- ctx.Err()
		return nil
	}}
	socket, _, _ := start(t, r, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := wire.Ask(ctx, socket, login("alice", "pw"))
		gone <- err
	}()
	<-entered
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("client: %v", err)
	}
	close(leave)
	if err := <-finished; err != nil {
		t.Errorf("the request ended with its client: %v", err)
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	entered := make(chan struct{})
	r := &recorder{reply: func(ctx context.Context) error {
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	}}
	socket, j, stop := start(t, r, Options{Patience: time.Hour})
	silent, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	answered := make(chan wire.Answer, 1)
	go func() { answered <- ask(t, socket, login("alice", "pw")) }()
	<-entered
	stop()
	if a := <-answered; a.Status != wire.Busy {
		t.Errorf("got %v", a)
	}
	if a, err := wire.ReadAnswer(silent); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("who had asked nothing got %v, %v", a, err)
	}
	if log := j.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "level=INFO") {
		t.Errorf("log: %s", log)
	}
	if _, err := net.Dial("unix", socket); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("afterwards: %v", err)
	}
}

func BenchmarkRequest(b *testing.B) {
	socket := filepath.Join(b.TempDir(), "pam.sock")
	l, err := Listen(socket)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, silent{}, Options{Log: slog.New(slog.DiscardHandler)}) }()
	for b.Loop() {
		if _, err := wire.Ask(ctx, socket, login("alice", "pw")); err != nil {
			b.Fatal(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// silent is an Unlocker whose users are always unlocked already.
type silent struct{}

func (silent) Login(context.Context, account.User, string, string, []byte) error  { return nil }
func (silent) ChangePassword(context.Context, account.User, []byte, []byte) error { return nil }
func (silent) ResetPassword(context.Context, account.User, []byte) error          { return nil }
