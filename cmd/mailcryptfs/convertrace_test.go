package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
)

// TestCountEndsWithConverter: nothing of the view may be in use when run has returned.
func TestCountEndsWithConverter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &forest{}
		running := false
		f.atEnd = func(ctx context.Context, _ string) {
			running = true
			<-ctx.Done()
			time.Sleep(time.Second) // what a pass takes to its next entry
			running = false
		}
		c := newConverter(f, f, 1, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.run(ctx, nil)
		}()
		synctest.Wait()
		request, hangUp := context.WithCancel(context.Background())
		defer hangUp()
		counted := make(chan struct{})
		go func() {
			defer close(counted)
			_, _ = c.count(request, owner, control.GoalEncrypt)
		}()
		synctest.Wait()
		cancel()
		<-ended
		if running || len(f.seen()) != 1 {
			t.Errorf("the count goes on; passes %q", f.seen())
		}
		hangUp()
		<-counted
		if _, err := c.count(t.Context(), owner, control.GoalEncrypt); !errors.Is(err, context.Canceled) || len(f.seen()) != 1 {
			t.Errorf("a count after the end: %v", err)
		}
	})
}
