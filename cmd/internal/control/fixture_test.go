package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
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
	l, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(r, slog.New(slog.NewTextHandler(io.Discard, nil)))
	done := make(chan error, 1)
	go func() { done <- s.Serve(l.UnixListener) }()
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
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return path, s
}
