package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/keyring"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/code"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/session"
)

// createdBy is written into key slots that the enroll verb makes.
const createdBy = "mailcryptfs enroll"

// service answers the control socket from the ring of unlocked users.
type service struct {
	slotKeeper
	config    config.Config
	policy    *policy
	tally     *tally
	reloader  *reloader
	journal   *journal
	ring      *keyring.Ring
	converter *converter
	keeper    *session.Keeper
	pids      *session.PIDs
	started   time.Time
	counters  func() any
}

var _ control.Service = (*service)(nil)

// Enroll implements control.Service.
func (s *service) Enroll(ctx context.Context, user string, password []byte) error {
	if err := s.policy.mayEnroll(); err != nil {
		secret.Wipe(password)
		return translate(err)
	}
	return translate(s.ring.Enroll(peered(ctx), account.User(user), password, createdBy))
}

// Unlock implements control.Service.
func (s *service) Unlock(ctx context.Context, user string, password []byte) error {
	err := s.ring.Unlock(peered(ctx), account.User(user), password)
	if err == nil {
		s.converter.poke()
	}
	return translate(err)
}

// Lock implements control.Service.
func (s *service) Lock(_ context.Context, user string) (bool, error) {
	err := s.ring.Lock(account.User(user))
	if errors.Is(err, secret.ErrLocked) {
		return false, nil
	}
	return err == nil, translate(err)
}

// Status implements control.Service.
func (s *service) Status(_ context.Context, user string) (control.UserStatus, error) {
	st, err := s.ring.Status(account.User(user))
	if err != nil {
		return control.UserStatus{}, translate(err)
	}
	us := userStatus(st)
	s.stay(&us)
	s.recovered(&us)
	us.Plain, err = s.ring.KeptPlain(account.User(user))
	if err != nil && us.Problem == "" {
		us.Problem = err.Error()
	}
	return us, nil
}

// Who implements control.Service.
func (s *service) Who(context.Context) ([]control.UserStatus, error) {
	unlocked := s.ring.Unlocked() // ordered by name
	all := make([]control.UserStatus, len(unlocked))
	for i, st := range unlocked {
		all[i] = userStatus(st)
		s.stay(&all[i])
	}
	return all, nil
}

// Daemon implements control.Service. It answers also when the store does not.
func (s *service) Daemon(context.Context) (control.DaemonStatus, error) {
	users, err := s.ring.Users()
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	return control.DaemonStatus{
		Version: version, PID: os.Getpid(), Started: s.started,
		Store: s.config.Store, View: s.config.View, Profile: s.config.Profile, Delivery: s.config.Delivery,
		Users: len(users), Unlocked: len(s.ring.Unlocked()), Problem: problem, Problems: problemsOf(s.keeper), Counters: s.counters(),
		Recovery: s.recoveryStatus(),
	}, nil
}

func userStatus(st keyring.Status) control.UserStatus {
	return control.UserStatus{
		User: string(st.User), Enrolled: st.Enrolled, Unlocked: st.Unlocked, Since: known(st.Since), By: st.By, Keys: st.Keys,
		Until: known(st.Until), Problem: st.Error,
	}
}

// known is nil for the zero time.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// translate gives the errors of the ring the codes of the control protocol.
func translate(err error) error {
	if err == nil {
		return nil
	}
	for _, known := range []struct {
		is   error
		code control.Code
	}{
		{secret.ErrNotEnrolled, control.CodeNotEnrolled},
		{recovery.ErrNoMatch, control.CodeBadKey}, // before ErrWrongSecret, which it is wrapped with
		{keyring.ErrNoRecovery, control.CodeBadKey},
		{keyring.ErrEnrolled, control.CodeEnrolled},
		{keyring.ErrWrongSecret, control.CodeWrongSecret},
		{secret.ErrMemory, control.CodeMemory},
		{secret.ErrLocked, control.CodeLocked},
		{session.ErrNoProcess, control.CodeNoProcess},
		{errRecoveryRequired, control.CodeRecovery},
		{code.ErrCode, control.CodeBadCode},
		{recovery.ErrIdentities, control.CodeBadKey},
		{keyring.ErrNoSlot, control.CodeNoSlot},
		{keyring.ErrLastSlot, control.CodeLastSlot},
		{keyring.ErrTooManySlots, control.CodeFull},
		{keyring.ErrRotating, control.CodeRotating},
		{keyring.ErrLabel, control.CodeBadRequest},
		{context.DeadlineExceeded, control.CodeBusy},
		{context.Canceled, control.CodeBusy},
	} {
		if errors.Is(err, known.is) {
			return &control.Error{Code: known.code, Message: err.Error()}
		}
	}
	var e *control.Error
	if errors.As(err, &e) {
		return e
	}
	return &control.Error{Code: control.CodeInternal, Message: err.Error()}
}
