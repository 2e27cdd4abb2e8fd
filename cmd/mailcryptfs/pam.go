package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/pam/unlock"
)

// byLogin and byPasswd are written into key slots.
const (
	byLogin  = "first login"
	byPasswd = "password change"
)

// openers is what logins use of keyring.Ring.
type openers interface {
	Status(u account.User) (keyring.Status, error)
	Unlock(ctx context.Context, u account.User, password []byte) error
	EnrollAndUnlock(ctx context.Context, u account.User, password []byte, by string) error
	ChangePassword(ctx context.Context, u account.User, old, new []byte, by string) error
	ResetPassword(ctx context.Context, u account.User, new []byte, by string) error
}

// logins does what the PAM module asks for.
type logins struct {
	ring     openers
	auto     bool // enrol at the first login
	policy   *policy
	unlocked func() // called after each unlock

	mu        sync.Mutex
	enrolling map[account.User]*enrolment // guarded by mu
}

// enrolment is what the logins of a user who has to be enrolled have in common.
type enrolment struct {
	turn   chan struct{} // holds an element while one of them enrols
	logins int           // so many of them have or await the turn; guarded by mu of logins
}

var _ unlock.Unlocker = (*logins)(nil)

func newLogins(c config.Config, ring openers, p *policy, unlocked func()) *logins {
	return &logins{ring: ring, auto: c.Enroll == "auto", policy: p, unlocked: unlocked, enrolling: make(map[account.User]*enrolment)}
}

// Login implements unlock.Unlocker.
func (l *logins) Login(ctx context.Context, u account.User, service, rhost string, password []byte) error {
	err := l.login(fromPAM(ctx, service, rhost), u, service, password)
	if err == nil {
		l.unlocked()
	}
	return translatePAM(err)
}

// fromPAM says for the audit log where a request comes from.
func fromPAM(ctx context.Context, service, rhost string) context.Context {
	peer := "PAM"
	if service != "" {
		peer += " " + service
	}
	if rhost != "" {
		peer += " from " + rhost
	}
	return keyring.WithPeer(ctx, peer)
}

func (l *logins) login(ctx context.Context, u account.User, service string, password []byte) error {
	if !l.auto {
		return l.ring.Unlock(ctx, u, password)
	}
	enrolled, err := l.enrolled(u)
	if err != nil || enrolled {
		return errors.Join(err, l.unlockIf(ctx, enrolled, u, password))
	}
	// Two first logins at once: one enrols, the other one then unlocks.
	done, err := l.turn(ctx, u)
	if err != nil {
		return err
	}
	defer done()
	if enrolled, err = l.enrolled(u); err != nil || enrolled {
		return errors.Join(err, l.unlockIf(ctx, enrolled, u, password))
	}
	if err := l.policy.mayEnroll(); err != nil {
		secret.Wipe(password)
		return err
	}
	again := bytes.Clone(password) // it is wiped whatever comes of the enrolment
	defer secret.Wipe(again)
	err = l.ring.EnrollAndUnlock(ctx, u, password, fmt.Sprintf("%s (%.100s)", byLogin, service))
	if errors.Is(err, keyring.ErrEnrolled) { // by the verb, or on another host, just now
		return l.ring.Unlock(ctx, u, again)
	}
	return err
}

func (l *logins) unlockIf(ctx context.Context, enrolled bool, u account.User, password []byte) error {
	if !enrolled {
		return nil
	}
	return l.ring.Unlock(ctx, u, password)
}

func (l *logins) enrolled(u account.User) (bool, error) {
	s, err := l.ring.Status(u)
	return s.Enrolled, err
}

// turn waits until no other login of the user enrols.
func (l *logins) turn(ctx context.Context, u account.User) (done func(), err error) {
	l.mu.Lock()
	e := l.enrolling[u]
	if e == nil {
		e = &enrolment{turn: make(chan struct{}, 1)}
		l.enrolling[u] = e
	}
	e.logins++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if e.logins--; e.logins == 0 {
			delete(l.enrolling, u)
		}
	}
	select {
	case e.turn <- struct{}{}:
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
	return func() {
		<-e.turn
		leave()
	}, nil
}

// ChangePassword implements unlock.Unlocker.
func (l *logins) ChangePassword(ctx context.Context, u account.User, old, new []byte) error {
	return translatePAM(l.ring.ChangePassword(fromPAM(ctx, "", ""), u, old, new, byPasswd))
}

// ResetPassword implements unlock.Unlocker.
func (l *logins) ResetPassword(ctx context.Context, u account.User, new []byte) error {
	err := l.ring.ResetPassword(fromPAM(ctx, "", ""), u, new, byPasswd)
	if errors.Is(err, secret.ErrLocked) {
		return fmt.Errorf("%w: %s", unlock.ErrWrongSecret, keyring.WasReset)
	}
	return translatePAM(err)
}

// translatePAM gives the errors of the ring the answers of the PAM protocol.
func translatePAM(err error) error {
	switch {
	case errors.Is(err, keyring.ErrWrongSecret):
		return fmt.Errorf("%w: %w", unlock.ErrWrongSecret, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", unlock.ErrBusy, err)
	}
	return err
}

// listenPAM makes the socket of the PAM module; nil without one.
func listenPAM(c config.Config) (*net.UnixListener, error) {
	if c.PAM == "" {
		return nil, nil
	}
	if err := makeRuntimeDir(c.PAM); err != nil {
		return nil, err
	}
	l, err := unlock.Listen(c.PAM)
	if err != nil {
		return nil, ui.Fail(ui.ExitOSErr, "choose another path with pam, or set it to \"\" if no PAM module is used", err)
	}
	return l, nil
}

// servePAM answers the PAM module until ctx ends; without a socket it only waits for that.
func servePAM(ctx context.Context, l *net.UnixListener, u unlock.Unlocker, log *slog.Logger) error {
	if l == nil {
		<-ctx.Done()
		return nil
	}
	return unlock.Serve(ctx, l, u, unlock.Options{Log: log})
}
