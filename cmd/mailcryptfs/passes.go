package main

import (
	"context"
	"fmt"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/fs"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// errKeyGone says that the user was locked during the job, which is over then.
var errKeyGone = fmt.Errorf("the user was locked: %w", context.Canceled)

// passes counts and converts until nothing is left, or trying is in vain.
func (c *converter) passes(ctx context.Context, j *job) error {
	pause := firstPause
	for vain := 0; ; {
		r, err := c.pass(ctx, j)
		switch {
		case err != nil:
			return err
		case settled(r):
			if err := c.interrupted(ctx, j); err != nil {
				return err
			}
			if r.Failed > 0 {
				return fmt.Errorf("%d entries cannot be converted; the log names them", r.Failed)
			}
			return nil
		case r.Done > 0:
			vain, pause = 0, firstPause
		default:
			vain++
		}
		if vain == vainTries {
			return inUse(r.Left - r.Done)
		}
		j.set(control.StateBusy)
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, longPause)
	}
}

// pass counts, and converts what it has found; it returns what the last of the two has met.
func (c *converter) pass(ctx context.Context, j *job) (r fs.Report, err error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return fs.Report{}, ctx.Err()
	}
	j.set(control.StateCounting)
	if r, err = c.convert(ctx, j.user, j.goal, true, j.counting); err != nil {
		return r, err
	}
	j.counting(r)
	if r.Left == 0 && c.sweptOnce(j.user) {
		return r, nil
	}
	j.beginPass()
	r, err = c.convert(ctx, j.user, j.goal, false, j.converting)
	j.endPass(r)
	if err == nil {
		err = ctx.Err() // a pass that is cut short between files tells nothing
	}
	if err == nil {
		c.sweep(j.user)
	}
	return r, err
}

// sweptOnce reports whether a pass has gone through the user's tree since the daemon began: what an earlier one left when it
// was killed in the middle of a conversion is no entry that counts.
func (c *converter) sweptOnce(u account.User) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.swept[u]
}

func (c *converter) sweep(u account.User) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.swept[u] = true
}

func (c *converter) convert(ctx context.Context, u account.User, g control.Goal, dry bool, show func(fs.Report)) (r fs.Report, err error) {
	f := c.trees.Encrypt
	if g == control.GoalDecrypt {
		f = c.trees.Decrypt
	}
	err = inBackground(func() (err error) {
		r, err = f(ctx, u, dry, show)
		return err
	})
	return r, err
}

// settled reports whether another pass would find nothing that it could convert.
func settled(r fs.Report) bool {
	return r.Busy == 0 && r.Left-r.Done <= r.Failed+r.Locked
}

// interrupted returns an error if what a job has just seen is no judgement, because the user's key went meanwhile, if only
// for a moment: then what he has counts as locked, or as needing nothing.
func (c *converter) interrupted(ctx context.Context, j *job) error {
	if c.keyGone(j) {
		return errKeyGone
	}
	return ctx.Err()
}

// keyGone reports whether the user had a key when the job began, and was locked since; he may have come back.
func (c *converter) keyGone(j *job) bool {
	return !j.since.IsZero() && !j.since.Equal(c.since(j.user))
}

// since returns when the user was unlocked; the zero time if he is locked.
func (c *converter) since(u account.User) time.Time {
	if !c.keys.Holds(u) {
		return time.Time{} // without asking the store
	}
	s, _ := c.keys.Status(u) // of whom it cannot tell, no key is at hand
	return s.Since
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// count is a conversion that changes nothing. It belongs to a request, but the view has to outlive it: it ends with the
// converter, which waits for it.
func (c *converter) count(ctx context.Context, u account.User, g control.Goal) (control.Conversion, error) {
	ctx, done, err := c.within(ctx)
	if err != nil {
		return control.Conversion{}, err
	}
	defer done()
	r, err := c.convert(ctx, u, g, true, nil)
	return control.Conversion{
		Goal: g, State: control.StateCounting, Entries: r.Entries, Left: r.Left, BytesLeft: r.Bytes,
		Busy: r.Busy, Locked: r.Locked, Failed: r.Failed,
	}, err
}

// within returns a context that ends with ctx and with the converter, whose end then waits for done.
func (c *converter) within(ctx context.Context) (context.Context, func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.ctx.Err(); err != nil {
		return nil, nil, err
	}
	c.running.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
		c.running.Done()
	}, nil
}

// inUse says how many entries could not be converted because somebody has them open. Nothing is wrong with them.
type inUse int64

func (n inUse) Error() string { return fmt.Sprintf("%d entries are in use", int64(n)) }
