package control

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// slowService unlocks as it is told to.
type slowService struct {
	recorder
	begun  chan struct{}
	unlock func(context.Context) error
}

func (s *slowService) Unlock(ctx context.Context, _ string, _ []byte) error {
	close(s.begun)
	return s.unlock(ctx)
}

// serveSlow serves a slow service, with one request that is in its hands.
func serveSlow(t *testing.T, f func(context.Context) error) (path string, s *Server, answered chan error) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	service := &slowService{begun: make(chan struct{}), unlock: f}
	s = NewServer(service, slog.New(slog.NewTextHandler(io.Discard, nil)))
	served, answered := make(chan error, 1), make(chan error, 1)
	go func() { served <- s.Serve(l.UnixListener) }()
	t.Cleanup(func() {
		if err := errors.Join(<-served, l.Close()); err != nil {
			t.Error(err)
		}
	})
	go func() { answered <- NewClient(path).Unlock(t.Context(), "alice", []byte("p")) }()
	<-service.begun
	return path, s, answered
}

// TestShutdownEndsWaiting ends a server while a request waits for something that may take long.
func TestShutdownEndsWaiting(t *testing.T) {
	t.Parallel()
	_, s, answered := serveSlow(t, func(ctx context.Context) error {
		<-ctx.Done()
		return &Error{CodeBusy, ctx.Err().Error()}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-answered; err == nil || *err.(*Error) != *errEnding {
		t.Errorf("the client got %v", err)
	}
}

// TestShutdownWaitsForHandlers ends a server while a request does what must not be cut short, and a client has connected
// that says nothing. The time for both is over, and so the connections are closed; that is no failure.
func TestShutdownWaitsForHandlers(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	var finished atomic.Bool
	path, s, answered := serveSlow(t, func(context.Context) error {
		<-gone
		finished.Store(true)
		return nil
	})
	silent, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	go func() {
		if err := <-answered; err == nil {
			t.Error("a closed connection brought an answer")
		}
		close(gone)
	}()
	over, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if err := s.Shutdown(over); err != nil {
		t.Error(err)
	}
	if !finished.Load() {
		t.Error("a request was still in the hands of the service")
	}
}
