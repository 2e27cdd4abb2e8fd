package unlock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/pam/wire"
)

const asStranger = "MAILCRYPTFS_TEST_SOCKET"

// TestMain lets the test binary be the client that is not root.
func TestMain(m *testing.M) {
	if socket := os.Getenv(asStranger); socket != "" {
		a, err := wire.Ask(context.Background(), socket, login("alice", "pw"))
		fmt.Print(a.Status, " ", err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// recorder is an Unlocker that writes down what it is asked, and answers with what the test wants.
type recorder struct {
	mu    sync.Mutex
	calls []string
	reply func(ctx context.Context) error // nil: success
}

func (r *recorder) record(ctx context.Context, format string, args ...any) error {
	r.mu.Lock()
	r.calls = append(r.calls, fmt.Sprintf(format, args...))
	r.mu.Unlock()
	if r.reply == nil {
		return nil
	}
	return r.reply(ctx)
}

func (r *recorder) Login(ctx context.Context, user account.User, service, rhost string, password []byte) error {
	return r.record(ctx, "login %q %q %q %q", user, service, rhost, password)
}

func (r *recorder) ChangePassword(ctx context.Context, user account.User, old, new []byte) error {
	return r.record(ctx, "change %q %q %q", user, old, new)
}

func (r *recorder) ResetPassword(ctx context.Context, user account.User, new []byte) error {
	return r.record(ctx, "reset %q %q", user, new)
}

func (r *recorder) seen() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.calls...)
}

// journal is a log that tests can read.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

func login(user, password string) wire.Request {
	return wire.Request{Kind: wire.Login, User: user, Service: "imap", RemoteHost: "192.0.2.1", Password: []byte(password)}
}

// start serves u until the test ends, and returns the socket, the log, and a function that ends the service and waits.
func start(t *testing.T, u Unlocker, o Options) (string, *journal, func()) {
	t.Helper()
	j := new(journal)
	o.Log = slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
	socket := filepath.Join(t.TempDir(), "pam.sock")
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, u, o) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return socket, j, stop
}

func ask(t *testing.T, socket string, r wire.Request) wire.Answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	a, err := wire.Ask(ctx, socket, r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

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

func TestNamesThatAreNotAllowed(t *testing.T) {
	r := new(recorder)
	socket, _, _ := start(t, r, Options{})
	for _, user := range []string{"../alice", "a//b", "/a", ".", "a\nb"} {
		if a := ask(t, socket, login(user, "pw")); a.Status != wire.Malformed {
			t.Errorf("%q: %v", user, a)
		}
	}
	if calls := r.seen(); len(calls) > 0 {
		t.Errorf("they reached the unlocker: %q", calls)
	}
}

// rawAnswer sends bytes as they are and returns the answer; the connection stays open for writing until then.
func rawAnswer(t *testing.T, socket, frame string) (wire.Answer, error) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Error(err)
		return wire.Answer{}, err
	}
	defer func() { _ = conn.Close() }()
	_, sent := io.WriteString(conn, frame)
	a, err := wire.ReadAnswer(conn)
	if err != nil {
		return a, errors.Join(sent, err)
	}
	return a, nil // it may have come before everything was sent (P4)
}

func TestFramesThatAreNotAllowed(t *testing.T) {
	type frame struct {
		bytes string
		want  wire.Status
	}
	for _, c := range []struct {
		patience time.Duration
		frames   map[string]frame
	}{
		{0, map[string]frame{
			"another protocol": {"GET / HTTP/1.1\r\n\r\n", wire.Malformed},
			"another version":  {"mcpr\x02\x01\x00\x00", wire.Unsupported},
			"too long":         {"mcpr\x01\x01\xff\xff", wire.Malformed},
		}},
		{2 * time.Second, map[string]frame{
			"nothing":       {"", wire.Malformed},
			"half a header": {"mcp", wire.Malformed},
			"half a body":   {"mcpr\x01\x03\x00\x06\x00\x01a", wire.Malformed},
		}},
	} {
		r := new(recorder)
		socket, j, stop := start(t, r, Options{Patience: c.patience})
		var all sync.WaitGroup
		for name, f := range c.frames {
			all.Go(func() {
				if a, err := rawAnswer(t, socket, f.bytes); err != nil || a.Status != f.want {
					t.Errorf("%s: %v, %v", name, a, err)
				}
			})
		}
		all.Wait()
		stop()
		if calls, n := r.seen(), strings.Count(j.String(), "level=ERROR"); len(calls) > 0 || n != len(c.frames) {
			t.Errorf("calls %q, %d errors in the log: %s", calls, n, j)
		}
	}
}

func TestAskingWhetherAnybodyListens(t *testing.T) {
	socket, j, stop := start(t, new(recorder), Options{})
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	ask(t, socket, login("alice", "pw"))
	stop()
	if n := strings.Count(j.String(), "\n"); n != 1 {
		t.Errorf("log: %s", j)
	}
}

func TestOthersThanRootAreDenied(t *testing.T) {
	r := new(recorder)
	socket, _, _ := start(t, r, Options{})
	// Neither the mode of the socket nor that of the way to it may be what keeps them out here.
	for _, path := range []string{filepath.Dir(filepath.Dir(socket)), filepath.Dir(socket), socket} {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(t.TempDir(), "client")
	// By a process of its own: a program that is started meanwhile would keep the file open for writing (ETXTBSY).
	copied := exec.CommandContext(t.Context(), "install", "-m", "0755", fmt.Sprintf("/proc/%d/exe", os.Getpid()), program)
	if out, err := copied.CombinedOutput(); err != nil {
		t.Fatalf("install: %v\n%s", err, out)
	}
	if err := os.Chmod(filepath.Dir(program), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = []string{asStranger + "=" + socket}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "denied <nil>" {
		t.Errorf("got %q, %v", out, err)
	}
	if calls := r.seen(); len(calls) > 0 {
		t.Errorf("the request reached the unlocker: %q", calls)
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

func TestConnectionsAreBounded(t *testing.T) {
	entered, leave := make(chan struct{}, 3), make(chan struct{})
	r := &recorder{reply: func(context.Context) error {
		entered <- struct{}{}
		<-leave
		return nil
	}}
	socket, _, _ := start(t, r, Options{Connections: 2})
	var first sync.WaitGroup
	for range 2 {
		first.Go(func() {
			if a := ask(t, socket, login("alice", "pw")); a.Status != wire.OK {
				t.Errorf("one of the first two: %v", a)
			}
		})
		<-entered
	}
	if a := ask(t, socket, login("bob", strings.Repeat("p", 1024))); a.Status != wire.Busy {
		t.Errorf("the third: %v", a)
	}
	close(leave)
	first.Wait()
	// The pages come back, if only some time after the answers.
	for deadline := time.Now().Add(20 * time.Second); ; {
		a := ask(t, socket, login("bob", "pw"))
		if a.Status == wire.OK {
			break
		}
		if a.Status != wire.Busy || time.Now().After(deadline) {
			t.Fatalf("afterwards: %v", a)
		}
	}
}

func TestWorkIsBounded(t *testing.T) {
	entered, leave := make(chan struct{}, 2), make(chan struct{})
	r := &recorder{reply: func(context.Context) error {
		entered <- struct{}{}
		<-leave
		return nil
	}}
	socket, _, _ := start(t, r, Options{Working: 1, Wait: 50 * time.Millisecond})
	var first sync.WaitGroup
	first.Go(func() { ask(t, socket, login("alice", "pw")) })
	<-entered
	if a := ask(t, socket, login("bob", "pw")); a.Status != wire.Busy {
		t.Errorf("got %v", a)
	}
	close(leave)
	first.Wait()
	if a := ask(t, socket, login("bob", "pw")); a.Status != wire.OK {
		t.Errorf("afterwards: %v", a)
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
	if a := <-answered; a.Status != wire.Failed {
		t.Errorf("got %v", a)
	}
	if a, err := wire.ReadAnswer(silent); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("who had asked nothing got %v, %v", a, err)
	}
	if n := strings.Count(j.String(), "\n"); n != 1 {
		t.Errorf("log: %s", j)
	}
	if _, err := net.Dial("unix", socket); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("afterwards: %v", err)
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pam.sock")
	for range 2 { // the second time in place of a socket that was left
		l, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != os.ModeSocket|0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
	if _, err := Listen(filepath.Join(path, "x")); err == nil {
		t.Error("listening below a socket")
	}
}

func TestPagesAreWiped(t *testing.T) {
	p, err := newPages(2)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	a, b := p.take(), p.take()
	if p.take() != nil {
		t.Error("a third page of two")
	}
	copy(a, "secret")
	copy(b[pageSize-6:], "secret")
	p.give(a)
	p.give(b)
	for range 2 {
		if page := p.take(); !bytes.Equal(page, make([]byte, pageSize)) {
			t.Error("a page comes back with something in it")
		}
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
