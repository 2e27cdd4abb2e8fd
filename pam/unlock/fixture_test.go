package unlock

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
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
