package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/keyring"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
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

// TestConverterPassWithoutKey locks the user in the middle of a pass that then comes to its end, before the converter hears of
// it: the pass has found nothing that it could have converted, and proves nothing. Neither does one after which he is back.
func TestConverterPassWithoutKey(t *testing.T) {
	for pass, left := range map[string]int64{"encrypt dry": 0, "encrypt": 3, "sealed": 0} {
		for _, back := range []bool{false, true} {
			t.Run(fmt.Sprint(pass, " back ", back), func(t *testing.T) {
				f := &forest{rotation: &keyring.Rotation{}, left: left}
				f.onceAt(pass, func() {
					f.lock()
					if back {
						time.Sleep(time.Millisecond)
						f.unlock()
					}
				})
				converting(t, f, func(c *converter) {
					f.unlock()
					if p := ended(t, c, control.GoalEncrypt); p.State != control.StateStopped {
						t.Errorf("%+v", p)
					}
					after(time.Minute)
					seen := f.seen()
					finish := slices.Index(seen, "finish")
					if (finish >= 0) != back {
						t.Errorf("passes %q", seen)
					}
					if back && !slices.Contains(seen[slices.Index(seen, pass)+1:max(finish, 1)], "sealed") {
						t.Errorf("the old keys were destroyed without another look: %q", seen)
					}
				})
			})
		}
	}
}

// TestConverterDecryptWithoutKey: entries that only the key opens are left, and decrypt must not say that nothing is.
func TestConverterDecryptWithoutKey(t *testing.T) {
	for pass, left := range map[string]int64{"decrypt dry": 0, "decrypt": 3} {
		f := &forest{left: left, plain: true}
		f.onceAt(pass, f.lock)
		converting(t, f, func(c *converter) {
			f.unlock()
			if p := ended(t, c, control.GoalDecrypt); p.State != control.StateStopped {
				t.Errorf("after %q: %+v", pass, p)
			}
		})
	}
}

// TestConverterWithoutKey: a job of a locked user proves nothing about old keys, which he alone can do without.
func TestConverterWithoutKey(t *testing.T) {
	for _, back := range []bool{false, true} {
		f := &forest{rotation: &keyring.Rotation{}}
		if back {
			f.onceAt("encrypt dry", f.unlock)
		}
		converting(t, f, func(c *converter) {
			if p := ended(t, c, control.GoalEncrypt); p.State != control.StateDone {
				t.Errorf("%+v", p)
			}
			after(time.Minute)
			want := []string{"encrypt dry"}
			if back { // by a job that the background begins
				want = append(want, "encrypt dry", "sealed", "finish")
			}
			if got := f.seen(); len(got) < len(want) || !slices.Equal(got[:len(want)], want) || slices.Contains(got, "finish") != back {
				t.Errorf("passes %q, want %q", got, want)
			}
		})
	}
}

// TestConverterForgotten destroys all keys when the old ones are about to be.
func TestConverterForgotten(t *testing.T) {
	f := &forest{rotation: &keyring.Rotation{}, gone: fmt.Errorf("record: %w", secret.ErrNotEnrolled)}
	converting(t, f, func(c *converter) {
		f.unlock()
		if p := ended(t, c, control.GoalEncrypt); p.State != control.StateDone {
			t.Errorf("%+v", p)
		}
	})
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
