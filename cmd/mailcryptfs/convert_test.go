package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/fs"
	"github.com/mailcryptfs/mailcryptfs/keyring"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// forest is trees and keys for a converter: entries to convert, and who is unlocked.
type forest struct {
	mu       sync.Mutex
	left     int64 // entries that are not as the last goal wants them
	busy     int64 // of these: in use
	failed   int64 // of these: damaged
	perEntry time.Duration
	err      error
	passes   []string
	unlocked []keyring.Status
	plain    bool

	rotation *keyring.Rotation
	open     int // calls of Sealed that find files open under old keys
}

func (f *forest) Encrypt(ctx context.Context, _ account.User, dry bool, show func(fs.Report)) (fs.Report, error) {
	return f.run(ctx, "encrypt", dry, show)
}

func (f *forest) Decrypt(ctx context.Context, _ account.User, dry bool, show func(fs.Report)) (fs.Report, error) {
	return f.run(ctx, "decrypt", dry, show)
}

func (f *forest) Sealed(context.Context, account.User) (bool, fs.Report, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.passes = append(f.passes, "sealed")
	f.open--
	return f.open < 0 && f.left == 0, fs.Report{Entries: 100}, f.err
}

func (f *forest) Rotation(account.User) (keyring.Rotation, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rotation == nil {
		return keyring.Rotation{}, false, nil
	}
	return *f.rotation, true, nil
}

func (f *forest) FinishRotation(context.Context, account.User, keyring.Rotation) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.passes = append(f.passes, "finish")
	f.rotation = nil
	return nil
}

func (f *forest) run(ctx context.Context, what string, dry bool, show func(fs.Report)) (fs.Report, error) {
	if dry {
		what += " dry"
	}
	f.mu.Lock() // never while time passes: a bubble takes waiting for a mutex for work
	f.passes = append(f.passes, what)
	r := fs.Report{Entries: 100, Left: f.left, Bytes: 1000 * f.left, Busy: f.busy, Failed: f.failed}
	f.mu.Unlock()
	if dry || f.err != nil {
		return r, f.err
	}
	for range r.Left - r.Busy - r.Failed {
		if err := sleep(ctx, f.perEntry); err != nil {
			return r, err
		}
		r.Done, r.Written = r.Done+1, r.Written+1000
		f.mu.Lock()
		f.left--
		f.mu.Unlock()
		show(r)
	}
	return r, nil
}

func (f *forest) Holds(account.User) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.unlocked) > 0
}

func (f *forest) Unlocked() []keyring.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.unlocked)
}

func (f *forest) KeptPlain(account.User) (bool, error) { return f.plain, nil }

const owner account.User = "alice"

// converting runs a converter over f in a bubble of synctest.
func converting(t *testing.T, f *forest, test func(c *converter)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newConverter(f, f, 1, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			c.run(ctx, tick.C)
		}()
		synctest.Wait()
		test(c)
		cancel()
		<-ended
	})
}

func (f *forest) unlock() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unlocked = []keyring.Status{{User: owner, Since: time.Now()}}
}

func (f *forest) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.passes)
}

// after lets time pass.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestConverterFindsNothing(t *testing.T) {
	f := &forest{}
	converting(t, f, func(c *converter) {
		if c.pending(owner) == "" {
			t.Error("nothing is pending before the first look")
		}
		f.unlock()
		c.poke()
		synctest.Wait()
		if p := c.of(owner); c.pending(owner) != "" || p == nil || p.State != control.StateDone || p.Entries != 100 {
			t.Errorf("pending %q, %+v", c.pending(owner), p)
		}
		after(lookAgain - time.Second)
		if want := []string{"encrypt dry"}; !slices.Equal(f.seen(), want) {
			t.Errorf("passes %q", f.seen())
		}
		after(3 * time.Second)
		if len(f.seen()) != 2 {
			t.Errorf("passes %q: not looked at again", f.seen())
		}
	})
}

func TestConverterProgress(t *testing.T) {
	f := &forest{left: 100, perEntry: time.Second}
	converting(t, f, func(c *converter) {
		f.unlock()
		c.poke()
		after(40*time.Second + time.Millisecond)
		p := c.of(owner)
		if p == nil || p.State != control.StateConverting || p.Done != 40 || p.Left != 60 || p.BytesLeft != 60000 {
			t.Fatalf("%+v", p)
		}
		if p.Rate < 0.99 || p.Rate > 1.01 || p.Remaining < 59 || p.Remaining > 61 {
			t.Errorf("%+v", p)
		}
		if got := c.pending(owner); got != "60 entries are left to encrypt" {
			t.Error(got)
		}
		after(time.Minute)
		if p := c.of(owner); p.State != control.StateDone || p.Done != 100 || p.Left != 0 || c.pending(owner) != "" {
			t.Errorf("%+v, %q", p, c.pending(owner))
		}
	})
}

func TestConverterRetriesBusyEntries(t *testing.T) {
	f := &forest{left: 10, busy: 2}
	converting(t, f, func(c *converter) {
		f.unlock()
		c.poke()
		synctest.Wait()
		if p := c.of(owner); p.State != control.StateBusy || p.Left != 2 || p.Busy != 2 || p.Done != 8 {
			t.Errorf("%+v", p)
		}
		f.mu.Lock()
		f.busy = 0
		f.mu.Unlock()
		after(firstPause + time.Second)
		if p := c.of(owner); p.State != control.StateDone || p.Done != 10 {
			t.Errorf("%+v", p)
		}
	})
}

func TestConverterGivesUp(t *testing.T) {
	for _, tt := range []struct {
		f    *forest
		want string
	}{
		{&forest{left: 3, busy: 3}, "3 entries are in use"},
		{&forest{left: 3, failed: 3}, "3 entries cannot be converted; the log names them"},
		{&forest{left: 1, err: errors.New("disk on fire")}, "disk on fire"},
	} {
		converting(t, tt.f, func(c *converter) {
			tt.f.unlock()
			c.poke()
			after(2 * time.Minute)
			if p := c.of(owner); p.State != control.StateStopped || p.Problem != tt.want {
				t.Errorf("%+v", p)
			}
			if got := c.pending(owner); got != "" {
				t.Errorf("the user cannot be locked: %q", got)
			}
		})
	}
}

func TestConverterStopsAtLock(t *testing.T) {
	f := &forest{left: 1000, perEntry: time.Second}
	converting(t, f, func(c *converter) {
		f.unlock()
		c.poke()
		after(10 * time.Second)
		c.locked(owner) // the end of a delivery epoch: still unlocked
		after(10 * time.Second)
		if p := c.of(owner); p.State != control.StateConverting {
			t.Errorf("%+v", p)
		}
		c.mu.Lock()
		j := c.jobs[owner]
		c.mu.Unlock()
		f.mu.Lock()
		f.unlocked = nil
		f.mu.Unlock()
		c.locked(owner)
		<-j.done
		if p := j.progress(); p.State != control.StateStopped || p.Done == 0 || p.Left == 0 {
			t.Errorf("%+v", p)
		}
	})
}

func TestConverterGoals(t *testing.T) {
	f := &forest{left: 1000, perEntry: time.Second}
	converting(t, f, func(c *converter) {
		j, err := c.start(owner, control.GoalEncrypt)
		if err != nil {
			t.Fatal(err)
		}
		after(10 * time.Second)
		same, err := c.start(owner, control.GoalEncrypt)
		if err != nil || same != j {
			t.Errorf("a second job of the same goal: %v", err)
		}
		other, err := c.start(owner, control.GoalDecrypt)
		if err != nil || other == j || j.progress().State != control.StateStopped {
			t.Errorf("%v, the first one is %+v", err, j.progress())
		}
		after(time.Hour)
		if p := other.progress(); p.State != control.StateDone || p.Done == 0 {
			t.Errorf("%+v", p)
		}
	})
}

func TestConverterKeepsPlain(t *testing.T) {
	f := &forest{left: 5, plain: true}
	converting(t, f, func(c *converter) {
		f.unlock()
		c.poke()
		after(time.Hour)
		if len(f.seen()) != 0 || c.pending(owner) != "" {
			t.Errorf("passes %q, pending %q", f.seen(), c.pending(owner))
		}
	})
}

func TestUsersOf(t *testing.T) {
	t.Parallel()
	for template, want := range map[string]string{
		"%u": "a@x.org b home lost+found", "home/%u": "c", "%d/%n": "c@home d@b",
	} {
		view := t.TempDir()
		for _, dir := range []string{"a@x.org", "b/d", "home/c", "lost+found"} {
			if err := os.MkdirAll(filepath.Join(view, dir), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		got, err := usersOf(view, template)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q, %v", template, got, err)
		}
	}
	if _, err := usersOf("/nowhere/at/all", "%u"); err == nil {
		t.Error("no error without a view")
	}
}

func TestConverterEndsRotations(t *testing.T) {
	for _, tt := range []struct {
		name string
		f    *forest
		want []string // passes within a minute
	}{
		{"nothing left", &forest{rotation: &keyring.Rotation{}}, []string{"encrypt dry", "sealed", "finish"}},
		{"entries left", &forest{rotation: &keyring.Rotation{}, left: 2}, []string{"encrypt dry", "encrypt", "sealed", "finish"}},
		{"a file is open", &forest{rotation: &keyring.Rotation{}, open: 1}, []string{"encrypt dry", "sealed", "encrypt dry", "sealed", "finish"}},
		{"the identity waits for an unlock", &forest{rotation: &keyring.Rotation{Pending: true}}, []string{"encrypt dry", "encrypt dry"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			converting(t, tt.f, func(c *converter) {
				tt.f.unlock()
				c.poke()
				after(45 * time.Second)
				if !slices.Equal(tt.f.seen(), tt.want) {
					t.Errorf("passes %q, want %q", tt.f.seen(), tt.want)
				}
				if p := c.of(owner); p.State != control.StateDone {
					t.Errorf("%+v", p)
				}
			})
		})
	}
}

// TestConverterKeepsOldKeys: what cannot be read now may be readable again, so nothing is destroyed.
func TestConverterKeepsOldKeys(t *testing.T) {
	for name, f := range map[string]*forest{
		"damaged file":  {rotation: &keyring.Rotation{}, left: 1, failed: 1},
		"open for days": {rotation: &keyring.Rotation{}, open: 1 << 30},
		"broken store":  {rotation: &keyring.Rotation{}, err: errors.New("disk on fire")},
	} {
		t.Run(name, func(t *testing.T) {
			converting(t, f, func(c *converter) {
				f.unlock()
				c.poke()
				after(time.Hour)
				if slices.Contains(f.seen(), "finish") || f.rotation == nil {
					t.Errorf("the old keys were destroyed: %q", f.seen())
				}
				if p := c.of(owner); p.State != control.StateStopped && p.State != control.StateBusy && p.State != control.StateCounting {
					t.Errorf("%+v", p)
				}
				if n := len(f.seen()); n > 2000 {
					t.Errorf("%d passes in an hour", n)
				}
			})
		})
	}
}

func TestConverterLooksAgain(t *testing.T) {
	f := &forest{}
	converting(t, f, func(c *converter) {
		f.unlock()
		c.poke()
		after(10 * time.Second)
		f.mu.Lock()
		f.rotation, f.left = &keyring.Rotation{}, 1
		f.mu.Unlock()
		c.again(owner)
		synctest.Wait()
		if want := []string{"encrypt dry", "encrypt dry", "encrypt", "sealed", "finish"}; !slices.Equal(f.seen(), want) {
			t.Errorf("passes %q, want %q", f.seen(), want)
		}
	})
}

// TestConverterLooksAgainAfterAJob: what was asked for while a job went on is not forgotten at its end.
func TestConverterLooksAgainAfterAJob(t *testing.T) {
	f := &forest{left: 10, perEntry: time.Second}
	converting(t, f, func(c *converter) {
		f.unlock()
		c.poke()
		after(5 * time.Second)
		c.again(owner)
		after(20 * time.Second)
		if want := []string{"encrypt dry", "encrypt", "encrypt dry"}; !slices.Equal(f.seen(), want) {
			t.Errorf("passes %q, want %q", f.seen(), want)
		}
		if c.pending(owner) != "" {
			t.Error(c.pending(owner))
		}
	})
}

// TestConverterAfterQuickReturn locks a user in the middle of a conversion, and unlocks her before that has come to its end.
func TestConverterAfterQuickReturn(t *testing.T) {
	f := &forest{left: 10, perEntry: time.Second}
	converting(t, f, func(c *converter) {
		f.unlock()
		c.poke()
		after(5500 * time.Millisecond)
		f.mu.Lock()
		f.unlocked = nil
		f.mu.Unlock()
		c.mu.Lock() // the job cannot settle while this is held
		j := c.jobs[owner]
		j.cancel()
		f.unlock()
		c.mu.Unlock()
		c.look()
		after(20 * time.Second)
		if p := c.of(owner); p == nil || p.State != control.StateDone || p.Left != 0 {
			t.Errorf("%+v, passes %q", p, f.seen())
		}
	})
}
