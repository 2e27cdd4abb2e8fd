package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

// maxEvents is how many events of a user status shows.
const maxEvents = 20

// quiet are the events that status leaves out: there are too many of them, and mailcryptfs log has them.
var quiet = []string{audit.Unlock, audit.Lock}

// journal is the daemon's side of the audit log. What happens to a user's keys goes into the log, and makes the count of
// users without a way back look at the user again.
type journal struct {
	log     *audit.Log
	store   string
	site    *site.Keys
	changed func(account.User)
}

func (j *journal) record(e audit.Event) {
	j.log.Record(e)
	j.changed(e.User)
}

// events returns the last events of the user, logins left out. Of a log that is damaged, it returns what is whole, and a
// last event that says so.
func (j *journal) events(u account.User) ([]control.Event, error) {
	var all []control.Event
	err := audit.Read(j.store, j.site, u, func(e audit.Event) error {
		if slices.Contains(quiet, e.What) {
			return nil
		}
		all = append(all, control.Event{Time: e.Time, What: e.What, Cause: e.Cause, By: e.By, Peer: e.Peer, Detail: e.Detail})
		if len(all) > 2*maxEvents {
			all = slices.Delete(all, 0, maxEvents)
		}
		return nil
	})
	if errors.Is(err, audit.ErrDamaged) {
		all, err = append(all, control.Event{Time: time.Now(), What: "log-damaged", Detail: "see mailcryptfs verify"}), nil
	}
	return all[max(0, len(all)-maxEvents):], err
}

// Events implements control.Slots.
func (s *service) Events(_ context.Context, user string) ([]control.Event, error) {
	return s.journal.events(account.User(user))
}

// Reload implements control.Slots.
func (s *service) Reload(context.Context) (control.Reloaded, error) {
	answer, err := s.reloader.reload()
	s.tally.changed("")
	return answer, err
}

// Refresh implements control.Slots.
func (s *service) Refresh(_ context.Context, user string) error {
	u := account.User(user)
	defer s.tally.changed(u)
	return translate(s.ring.Reload(u))
}

// Rotate implements control.Slots: the work begins at once if the user is unlocked.
func (s *service) Rotate(ctx context.Context, user string, identity bool) (control.Rotation, error) {
	r, err := s.slotKeeper.Rotate(ctx, user, identity)
	s.converter.again(account.User(user))
	return s.needs(user, r), err
}

// needs says what has to happen for a rotation to go on.
func (s *service) needs(user string, r control.Rotation) control.Rotation {
	if st, err := s.ring.Status(account.User(user)); err == nil && !st.Unlocked {
		r.Need = "the user has to log in"
	}
	return r
}

// Survey implements control.Slots.
func (s *service) Survey(ctx context.Context) ([]control.Survey, error) {
	all, err := s.slotKeeper.Survey(ctx)
	for i := range all {
		if r := all[i].Rotation; r != nil {
			*r = s.needs(all[i].User, *r)
		}
	}
	return all, err
}

// recovered adds to the status of an enrolled user what opens the mail if the passwords are lost.
func (s *service) recovered(st *control.UserStatus) {
	if !st.Enrolled {
		return
	}
	survey := s.survey(account.User(st.User))
	if survey.Rotation != nil {
		*survey.Rotation = s.needs(st.User, *survey.Rotation)
	}
	st.Recovery = &survey
}

func (s *service) recoveryStatus() control.RecoveryStatus {
	c := s.tally.count()
	now := s.policy.now.Load()
	c.Policy, c.Recipients, c.Problem = now.mode, len(now.recipients), s.reloader.lastProblem()
	return c
}
