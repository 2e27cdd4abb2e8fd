package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/keyring"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// openerOf is a ring whose only user is enrolled as the test says.
type openerOf struct {
	openers // what no test calls

	mu       sync.Mutex
	enrolled bool
	enroll   func() error // the derivation of EnrollAndUnlock, and what comes of it
	calls    []string
	given    [][]byte // the passwords
}

func (o *openerOf) Status(u account.User) (keyring.Status, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return keyring.Status{User: u, Enrolled: o.enrolled}, nil
}

func (o *openerOf) note(what string, password []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls = append(o.calls, what+" "+string(password))
	o.given = append(o.given, password)
}

func (o *openerOf) Unlock(_ context.Context, _ account.User, password []byte) error {
	o.note("unlock", password)
	return nil
}

func (o *openerOf) EnrollAndUnlock(_ context.Context, _ account.User, password []byte, _ string) error {
	defer secret.Wipe(password)
	o.note("enrol", password)
	err := o.enroll()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.enrolled = o.enrolled || err == nil
	return err
}

func loginsOf(o *openerOf) *logins {
	return newLogins(config.Config{Enroll: "auto"}, o, newPolicy(recoveryPolicy{mode: "none"}), func() {})
}

// TestFirstLoginBesideEnroll: somebody else enrols the user while the login derives.
func TestFirstLoginBesideEnroll(t *testing.T) {
	t.Parallel()
	o := &openerOf{enroll: func() error { return fmt.Errorf("record: %w", keyring.ErrEnrolled) }}
	if err := loginsOf(o).Login(t.Context(), owner, "imap", "", []byte("pw")); err != nil {
		t.Errorf("the login failed: %v", err)
	}
	if want := []string{"enrol pw", "unlock pw"}; !slices.Equal(o.calls, want) {
		t.Errorf("%q, want %q", o.calls, want)
	}
	for i, password := range o.given {
		if string(password) != "\x00\x00" {
			t.Errorf("the password of %q is left", o.calls[i])
		}
	}
}

// TestFirstLoginsTakeTurns: after a login that could not enrol, only one of those that wait and of those that come tries.
func TestFirstLoginsTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan error)
		o := &openerOf{enroll: func() error { return <-release }}
		l := loginsOf(o)
		ended := make(chan error, 3)
		login := func() {
			go func() { ended <- l.Login(t.Context(), owner, "imap", "", []byte("pw")) }()
			synctest.Wait()
		}
		login()
		login()
		failed := errors.New("disk full")
		release <- failed
		if err := <-ended; !errors.Is(err, failed) {
			t.Errorf("the first login: %v", err)
		}
		login()
		if want := []string{"enrol pw", "enrol pw"}; !slices.Equal(o.calls, want) {
			t.Errorf("%q, want %q", o.calls, want)
		}
		release <- nil
		synctest.Wait()
		select { // one that should have waited; it would wait for ever
		case release <- keyring.ErrEnrolled:
		default:
		}
		for range 2 {
			if err := <-ended; err != nil {
				t.Errorf("a later login: %v", err)
			}
		}
		if want := []string{"enrol pw", "enrol pw", "unlock pw"}; !slices.Equal(o.calls, want) {
			t.Errorf("%q, want %q", o.calls, want)
		}
		if len(l.enrolling) != 0 {
			t.Errorf("%d users are left", len(l.enrolling))
		}
	})
}

// TestFirstLoginGivesUp: a login that is cut short while it waits leaves nothing behind.
func TestFirstLoginGivesUp(t *testing.T) {
	t.Parallel()
	l := loginsOf(&openerOf{})
	done, err := l.turn(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.turn(ctx, owner); !errors.Is(err, context.Canceled) {
		t.Errorf("a second turn: %v", err)
	}
	done()
	if len(l.enrolling) != 0 {
		t.Errorf("%d users are left", len(l.enrolling))
	}
}
