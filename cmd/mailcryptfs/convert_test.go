package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/keyring"
)

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

// TestConverterSweeps goes through a tree once in the life of a daemon even if nothing is to be converted.
func TestConverterSweeps(t *testing.T) {
	f := &forest{fresh: true}
	converting(t, f, func(c *converter) {
		f.unlock()
		c.poke()
		synctest.Wait()
		after(lookAgain + 2*time.Second)
		if want := []string{"encrypt dry", "encrypt", "encrypt dry"}; !slices.Equal(f.seen(), want) {
			t.Errorf("passes %q", f.seen())
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
