package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
)

// onceAt sets what happens at the end of the first pass of that kind.
func (f *forest) onceAt(pass string, do func()) {
	happened := false
	f.atEnd = func(_ context.Context, what string) {
		if what == pass && !happened {
			happened = true
			do()
		}
	}
}

// TestConverterJoined asks for a conversion at the end of a pass of the one that goes on, which has passed by what came since.
func TestConverterJoined(t *testing.T) {
	f := &forest{}
	converting(t, f, func(c *converter) {
		var joined *job
		f.onceAt("encrypt dry", func() {
			f.mu.Lock()
			f.left = 1
			f.mu.Unlock()
			joined, _ = c.start(owner, control.GoalEncrypt)
		})
		first, err := c.start(owner, control.GoalEncrypt) // the user is locked: the background knows nothing of him
		if err != nil {
			t.Fatal(err)
		}
		<-first.done
		if p := first.progress(); joined != first || p.State != control.StateDone || p.Done != 1 || f.left != 0 {
			t.Errorf("%+v, %d left", p, f.left)
		}
	})
}

// TestConverterLooksBesideDecrypt has decrypt come between the background's question whether the tree stays plain and its job.
func TestConverterLooksBesideDecrypt(t *testing.T) {
	for _, ends := range []bool{false, true} {
		f := &forest{left: 5, perEntry: time.Second}
		converting(t, f, func(c *converter) {
			var decrypt *job
			f.looking = func() {
				if decrypt != nil {
					return
				}
				f.plain = true
				decrypt, _ = c.start(owner, control.GoalDecrypt)
				if ends {
					<-decrypt.done
				}
			}
			f.unlock()
			c.poke()
			after(time.Hour)
			if p := decrypt.progress(); p.State != control.StateDone {
				t.Errorf("%+v", p)
			}
			if want := []string{"decrypt dry", "decrypt"}; !slices.Equal(f.seen(), want) {
				t.Errorf("passes %q, want %q", f.seen(), want)
			}
		})
	}
}

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
