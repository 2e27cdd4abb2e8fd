package main

import (
	"context"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// Register implements control.Service.
func (s *service) Register(_ context.Context, user string, pid int) error {
	return translate(s.pids.Register(account.User(user), pid))
}

// Convert implements control.Service.
func (s *service) Convert(ctx context.Context, user string, r control.ConvertRequest, show func(control.Conversion)) (control.Conversion, error) {
	u := account.User(user)
	if err := s.mayConvert(u, r.Goal); err != nil {
		return control.Conversion{}, err
	}
	if r.DryRun {
		c, err := s.converter.count(ctx, u, r.Goal)
		return c, translate(err)
	}
	if err := s.ring.KeepPlain(u, r.Goal == control.GoalDecrypt); err != nil {
		return control.Conversion{}, translate(err)
	}
	j, err := s.converter.start(u, r.Goal)
	if err != nil {
		return control.Conversion{}, translate(err)
	}
	if !r.Wait {
		return j.progress(), nil
	}
	tick := time.NewTicker(time.Second / showsPerSec)
	defer tick.Stop()
	for {
		select {
		case <-j.done:
			return j.progress(), nil
		case <-ctx.Done():
			return j.progress(), nil // nobody listens any more; the job goes on
		case <-tick.C:
			show(j.progress())
		}
	}
}

// start begins a conversion that was asked for, or returns the one of the same goal that goes on; one of the other goal is
// ended first.
func (c *converter) start(u account.User, g control.Goal) (*job, error) {
	for {
		j, fresh := c.claim(u, g, true)
		switch {
		case j == nil:
			return nil, context.Canceled
		case fresh || j.goal == g:
			return j, nil
		}
		j.cancel()
		<-j.done
	}
}

// mayConvert refuses what could not be read afterwards, or not be read before.
func (s *service) mayConvert(u account.User, g control.Goal) error {
	if g != control.GoalDecrypt {
		return nil
	}
	if s.config.Plain == "refuse" {
		return &control.Error{Code: control.CodeBadRequest, Message: `the configuration says plain = "refuse": plain files could not be read`}
	}
	st, err := s.ring.Status(u)
	if err != nil {
		return translate(err)
	}
	if st.Enrolled && !st.Unlocked {
		return &control.Error{Code: control.CodeLocked, Message: "the user is locked"}
	}
	return nil
}
