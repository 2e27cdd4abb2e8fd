package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// recorder is a Service that remembers what it was asked.
type recorder struct {
	mu    sync.Mutex
	calls []string
	seen  [][]byte // the password buffers, not copies
	err   error
	wait  time.Duration
}

func (r *recorder) note(ctx context.Context, verb, user string, password []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, fmt.Sprintf("%s %s %s", verb, user, password))
	r.seen = append(r.seen, password)
	if r.wait > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(r.wait):
		}
	}
	return r.err
}

func (r *recorder) Enroll(ctx context.Context, user string, password []byte) error {
	return r.note(ctx, "enroll", user, password)
}

func (r *recorder) Unlock(ctx context.Context, user string, password []byte) error {
	return r.note(ctx, "unlock", user, password)
}

func (r *recorder) Lock(ctx context.Context, user string) (bool, error) {
	return user == "alice", r.note(ctx, "lock", user, nil)
}

func (r *recorder) Status(ctx context.Context, user string) (UserStatus, error) {
	return UserStatus{User: user, Enrolled: true, Keys: 2}, r.note(ctx, "status", user, nil)
}

func (r *recorder) Who(ctx context.Context) ([]UserStatus, error) {
	return []UserStatus{{User: "alice", Unlocked: true}}, r.note(ctx, "who", "", nil)
}

func (r *recorder) Daemon(ctx context.Context) (DaemonStatus, error) {
	return DaemonStatus{Version: "v", Store: "/s"}, r.note(ctx, "daemon", "", nil)
}

func (r *recorder) Passwd(ctx context.Context, user string, p Proof, new []byte) error {
	return errors.Join(r.proof(ctx, "passwd", user, p), r.note(ctx, "passwd", user, new))
}

func (r *recorder) Register(ctx context.Context, user string, pid int) error {
	return r.note(ctx, fmt.Sprint("register ", pid), user, nil)
}

func (r *recorder) Convert(ctx context.Context, user string, c ConvertRequest, show func(Conversion)) (Conversion, error) {
	for i := range int64(3) {
		show(Conversion{Goal: c.Goal, State: StateConverting, Done: i})
	}
	return Conversion{Goal: c.Goal, State: StateDone, Done: 3}, r.note(ctx, fmt.Sprint("convert ", c), user, nil)
}

// start serves r on a socket of its own until the test ends.
func start(t *testing.T, r *recorder) (string, *Server) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "control.sock")
	l, _, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(r, slog.New(slog.NewTextHandler(io.Discard, nil)))
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	return path, s
}

func TestCalls(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	path, _ := start(t, r)
	c, ctx := NewClient(path), t.Context()

	password := []byte("pass word \x00\xff")
	if err := c.Enroll(ctx, "alice", password); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(password, make([]byte, len(password))) {
		t.Error("the client did not wipe the password")
	}
	if err := c.Unlock(ctx, "b\xffb/x", []byte("p2")); err != nil {
		t.Error(err)
	}
	if changed, err := c.Lock(ctx, "alice"); err != nil || !changed {
		t.Errorf("Lock(alice) = %v, %v", changed, err)
	}
	if changed, err := c.Lock(ctx, "bob"); err != nil || changed {
		t.Errorf("Lock(bob) = %v, %v", changed, err)
	}
	if st, err := c.Status(ctx, "alice"); err != nil || st.Keys != 2 || st.User != "alice" {
		t.Errorf("Status = %+v, %v", st, err)
	}
	if users, err := c.Who(ctx); err != nil || len(users) != 1 || !users[0].Unlocked {
		t.Errorf("Who = %+v, %v", users, err)
	}
	if d, err := c.Daemon(ctx); err != nil || d.Store != "/s" {
		t.Errorf("Daemon = %+v, %v", d, err)
	}
	want := []string{"enroll alice pass word \x00\xff", "unlock b\xffb/x p2", "lock alice ", "lock bob ", "status alice ", "who  ", "daemon  "}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.calls, want) {
		t.Errorf("calls %q, want %q", r.calls, want)
	}
	for i, b := range r.seen {
		if !bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("the server did not wipe the password of call %d", i)
		}
	}
}

func TestErrorsKeepTheirCode(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want Code
	}{
		{&Error{CodeWrongSecret, "no slot opens"}, CodeWrongSecret},
		{fmt.Errorf("x: %w", &Error{CodeEnrolled, "there is one"}), CodeEnrolled},
		{errors.New("disk on fire"), CodeInternal},
		{context.DeadlineExceeded, CodeBusy},
	} {
		path, _ := start(t, &recorder{err: tt.err})
		var e *Error
		if err := NewClient(path).Unlock(t.Context(), "alice", []byte("p")); !errors.As(err, &e) || e.Code != tt.want {
			t.Errorf("got %v, want code %s", err, tt.want)
		}
	}
}

func TestBadRequestsDoNotReachTheService(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	path, _ := start(t, r)
	client := NewClient(path)
	for name, err := range map[string]error{
		"empty user":     client.Unlock(t.Context(), "", []byte("p")),
		"dots":           client.Unlock(t.Context(), "a/../b", []byte("p")),
		"empty password": client.Unlock(t.Context(), "alice", nil),
		"long password":  client.Enroll(t.Context(), "alice", make([]byte, MaxPassword+1)),
		"long user":      client.Enroll(t.Context(), strings.Repeat("x", 2000), []byte("p")),
	} {
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, body := range map[string]string{
		"no JSON":        "user=alice",
		"wrong type":     `{"user": 1}`,
		"not base64":     `{"user": "***"}`,
		"too much":       `{"user": "` + strings.Repeat("A", maxBody) + `"}`,
		"empty":          "",
		"trailing bytes": `{} {}`,
	} {
		a := post(t, client, pathLock, body)
		if !strings.Contains(a, string(CodeBadRequest)) {
			t.Errorf("%s: %s", name, a)
		}
	}
	if len(r.calls) > 0 {
		t.Errorf("the service was called: %q", r.calls)
	}
}

func post(t *testing.T, c *Client, path, body string) string {
	t.Helper()
	res, err := c.http.Post("http://x"+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestUnknownPathsAndMethods(t *testing.T) {
	t.Parallel()
	path, _ := start(t, &recorder{})
	c := NewClient(path)
	if _, err := c.call(t.Context(), "/v2/unlock", request{}); !errors.Is(err, errAnswer) {
		t.Errorf("unknown path: %v", err)
	}
	res, err := c.http.Get("http://x" + pathWho)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %s", res.Status)
	}
}

func TestASlowServiceOutlivesTheReadTimeout(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, _, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(&recorder{wait: 3 * time.Second}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	s.http.ReadTimeout = 2 * time.Second
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	if err := NewClient(path).Unlock(t.Context(), "alice", []byte("p")); err != nil {
		t.Error(err)
	}
	if err := errors.Join(s.Shutdown(t.Context()), <-done); err != nil {
		t.Error(err)
	}
}

// TestReadBufferIsWiped looks into the buffers that net/http read the request into, after it was answered.
func TestReadBufferIsWiped(t *testing.T) {
	t.Parallel()
	a, b := unixPair(t)
	c := &wipingConn{UnixConn: a}
	if _, err := b.Write([]byte("the password")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, err := c.Read(buf)
	if err != nil || string(buf[:n]) != "the password" {
		t.Fatalf("read %q, %v", buf[:n], err)
	}
	c.wipe()
	if !bytes.Equal(buf, make([]byte, len(buf))) {
		t.Errorf("left in the buffer: %q", buf)
	}
}

func unixPair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	a, err = l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// TestListen runs before the parallel tests: one that starts a program has a copy of the listening socket for a moment.
func TestListen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	l, _, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	if _, _, err := Listen(path); !errors.Is(err, ErrInUse) {
		t.Errorf("second daemon: %v", err)
	}
	l.SetUnlinkOnClose(false) // as after kill -9
	l.Close()
	again, _, err := Listen(path)
	if err != nil {
		t.Fatalf("stale socket: %v", err)
	}
	again.Close()

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a file in the way: %v", err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Listen(filepath.Join(dir, "t")); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
		t.Errorf("a directory that others can write: %v", err)
	}
}

func TestClientWithoutDaemon(t *testing.T) {
	t.Parallel()
	_, err := NewClient(filepath.Join(t.TempDir(), "s")).Who(t.Context())
	if !errors.Is(err, ErrNoDaemon) {
		t.Errorf("got %v", err)
	}
}

// TestOthersAreRefused calls the daemon from a child that runs as nobody: once through a socket that its mode protects,
// once through one that only the peer check does.
func TestOthersAreRefused(t *testing.T) {
	t.Parallel()
	if path := os.Getenv("CONTROL_TEST_SOCKET"); path != "" {
		_, err := NewClient(path).Lock(t.Context(), "alice")
		fmt.Printf("child: %v\n", err)
		return
	}
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root: run contrib/test.sh with sudo")
	}
	r := &recorder{}
	path, _ := start(t, r)
	// Every directory above the socket is passable, so that only the socket is in the way.
	for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out := asNobody(t, path); !strings.Contains(out, ErrNotPermitted.Error()) {
		t.Errorf("socket 0600: %s", out)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if out := asNobody(t, path); !strings.Contains(out, "not uid 65534") {
		t.Errorf("socket 0666: %s", out)
	}
	if len(r.calls) > 0 {
		t.Errorf("the service was called: %q", r.calls)
	}
}

// asNobody runs this test as uid 65534 against the socket and returns what it printed. The test binary is copied,
// because go test builds it where nobody may not go.
func asNobody(t *testing.T, socket string) string {
	t.Helper()
	binary := filepath.Join(filepath.Dir(socket), "child")
	// By a process of its own: a program that is started meanwhile would keep the file open for writing (ETXTBSY).
	copied := exec.CommandContext(t.Context(), "install", "-m", "0755", fmt.Sprintf("/proc/%d/exe", os.Getpid()), binary)
	if out, err := copied.CombinedOutput(); err != nil {
		t.Fatalf("install: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), binary, "-test.run=^TestOthersAreRefused$")
	cmd.Env = []string{"CONTROL_TEST_SOCKET=" + socket}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	return string(out)
}

func TestConvertStreams(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	path, _ := start(t, r)
	var seen []int64
	last, err := NewClient(path).Convert(t.Context(), "alice", ConvertRequest{Goal: GoalDecrypt, Wait: true}, func(c Conversion) {
		seen = append(seen, c.Done)
	})
	if err != nil || last.Done != 3 || last.State != StateDone || !slices.Equal(seen, []int64{0, 1, 2}) {
		t.Errorf("%+v, %v, %v", last, seen, err)
	}
	var e *Error
	if _, err := NewClient(path).Convert(t.Context(), "alice", ConvertRequest{Goal: "x"}, nil); !errors.As(err, &e) || e.Code != CodeBadRequest {
		t.Errorf("unknown goal: %v", err)
	}
	r.err = &Error{CodeLocked, "locked"}
	if _, err := NewClient(path).Convert(t.Context(), "alice", ConvertRequest{Goal: GoalEncrypt}, nil); !errors.As(err, &e) || e.Code != CodeLocked {
		t.Errorf("refused: %v", err)
	}
}

func TestPasswdAndRegister(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	path, _ := start(t, r)
	old, fresh := []byte("old"), []byte("new")
	if err := NewClient(path).Passwd(t.Context(), "alice", Proof{Password: old}, fresh); err != nil {
		t.Fatal(err)
	}
	if err := NewClient(path).Register(t.Context(), "alice", 4711); err != nil {
		t.Fatal(err)
	}
	for _, b := range append(r.seen, old, fresh) {
		if len(bytes.Trim(b, "\x00")) != 0 {
			t.Errorf("%q is left", b)
		}
	}
	if want := []string{"passwd alice old", "passwd alice new", "register 4711 alice "}; !slices.Equal(r.calls, want) {
		t.Errorf("calls %q", r.calls)
	}
	var e *Error
	if err := NewClient(path).Passwd(t.Context(), "alice", Proof{}, []byte("x")); !errors.As(err, &e) || e.Code != CodeBadRequest {
		t.Errorf("without the old password: %v", err)
	}
	if err := NewClient(path).Register(t.Context(), "alice", 1); !errors.As(err, &e) || e.Code != CodeBadRequest {
		t.Errorf("init: %v", err)
	}
}
