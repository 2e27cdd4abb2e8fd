package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/fs"
	"github.com/mailcryptfs/mailcryptfs/keyring"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// errOldKeys says that a rotation goes on although everything was looked at.
var errOldKeys = errors.New("old keys are still needed by files that are open, or cannot be read")

// again has the converter look at an unlocked user at once, or at the end of the job that goes on.
func (c *converter) again(u account.User) {
	c.mu.Lock()
	if l := c.looked[u]; l != nil {
		l.next, l.once = c.now(), false
	}
	if j := c.jobs[u]; j != nil {
		j.again = true
	}
	c.mu.Unlock()
	c.poke()
}

// encrypt makes passes until nothing is left, and then ends a rotation, if there is one: its old keys are destroyed when
// nothing needs them any more.
func (c *converter) encrypt(ctx context.Context, j *job) error {
	pause := firstPause
	for range vainTries {
		err := c.passes(ctx, j)
		if ctx.Err() != nil || errors.Is(err, errKeyGone) {
			return err
		}
		done, finishErr := c.finish(ctx, j)
		switch {
		case finishErr != nil:
			return finishErr
		case done || err != nil:
			return err
		}
		j.set(control.StateBusy)
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, longPause)
	}
	return errOldKeys
}

// finish destroys the old keys of a user whose keys were rotated. It reports whether there is nothing to do, or nothing any
// more. Only a job that has had the user's key from its beginning may do that: without the key nothing counts as to be
// sealed anew, whatever key it is under.
func (c *converter) finish(ctx context.Context, j *job) (bool, error) {
	u := j.user
	r, rotating, err := c.keys.Rotation(u)
	if errors.Is(err, secret.ErrNotEnrolled) {
		return true, nil // there are no keys to rotate
	}
	if err != nil || !rotating || r.Pending || j.since.IsZero() {
		return true, err
	}
	var sealed bool
	var report fs.Report
	err = inBackground(func() (err error) {
		sealed, report, err = c.trees.Sealed(ctx, u)
		return err
	})
	if err == nil {
		err = c.interrupted(ctx, j)
	}
	if err != nil || !sealed {
		return false, err
	}
	err = c.keys.FinishRotation(ctx, u, r)
	switch {
	case errors.Is(err, keyring.ErrRotation), errors.Is(err, keyring.ErrTooSoon):
		return false, nil // another one began meanwhile, or other hosts need more time
	case errors.Is(err, secret.ErrNotEnrolled):
		return true, nil // somebody has just destroyed all keys
	case err != nil:
		return false, fmt.Errorf("cannot destroy the old keys: %w", err)
	}
	c.log.Info("rotation ended: the old keys are destroyed", "user", string(u), "entries", report.Entries)
	return true, nil
}

// rotating reports whether old keys of the user wait to be destroyed.
func (c *converter) rotating(u account.User) bool {
	_, rotating, err := c.keys.Rotation(u)
	return err == nil && rotating
}
