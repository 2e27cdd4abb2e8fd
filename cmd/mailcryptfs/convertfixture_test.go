package main

import (
	"context"
	"log/slog"
	"slices"
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
	fresh    bool // the daemon has just begun: no pass has cleared away what an earlier one may have left

	rotation *keyring.Rotation
	open     int   // calls of Sealed that find files open under old keys
	gone     error // of FinishRotation

	// What happens at such a moment; set before the converter runs, called without mu.
	atEnd   func(ctx context.Context, what string) // of a pass
	looking func()                                 // when KeptPlain has its answer
}

// at calls the hook for the end of a pass.
func (f *forest) at(ctx context.Context, what string) {
	if f.atEnd != nil {
		f.atEnd(ctx, what)
	}
}

func (f *forest) Encrypt(ctx context.Context, _ account.User, dry bool, show func(fs.Report)) (fs.Report, error) {
	return f.run(ctx, "encrypt", dry, show)
}

func (f *forest) Decrypt(ctx context.Context, _ account.User, dry bool, show func(fs.Report)) (fs.Report, error) {
	return f.run(ctx, "decrypt", dry, show)
}

func (f *forest) Sealed(ctx context.Context, _ account.User) (bool, fs.Report, error) {
	defer f.at(ctx, "sealed")
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
	return f.gone
}

func (f *forest) run(ctx context.Context, what string, dry bool, show func(fs.Report)) (fs.Report, error) {
	if dry {
		what += " dry"
	}
	defer f.at(ctx, what)
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

func (f *forest) Status(u account.User) (keyring.Status, error) {
	for _, s := range f.Unlocked() {
		if s.User == u {
			return s, nil
		}
	}
	return keyring.Status{User: u}, nil
}

func (f *forest) Unlocked() []keyring.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.unlocked)
}

func (f *forest) KeptPlain(account.User) (bool, error) {
	plain := f.plain
	if f.looking != nil {
		f.looking()
	}
	return plain, nil
}

const owner account.User = "alice"

// ended starts a conversion and returns how it ended.
func ended(t *testing.T, c *converter, g control.Goal) control.Conversion {
	t.Helper()
	j, err := c.start(owner, g)
	if err != nil {
		t.Fatal(err)
	}
	<-j.done
	return j.progress()
}

// converting runs a converter over f in a bubble of synctest.
func converting(t *testing.T, f *forest, test func(c *converter)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newConverter(f, f, 1, slog.New(slog.DiscardHandler))
		c.swept[owner] = !f.fresh
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

func (f *forest) lock() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unlocked = nil
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
