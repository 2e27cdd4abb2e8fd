package pam_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/pam/unlock"
)

// recorder writes down what arrives, and passes it on to the next Unlocker if there is one.
type recorder struct {
	next unlock.Unlocker
	fail error // if set, the answer to everything

	mu    sync.Mutex
	calls []string
}

func (r *recorder) record(format string, args ...any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, fmt.Sprintf(format, args...))
	return r.fail
}

func (r *recorder) Login(ctx context.Context, user account.User, service, rhost string, password []byte) error {
	if err := r.record("login %q %q", user, password); err != nil || r.next == nil {
		return err
	}
	return r.next.Login(ctx, user, service, rhost, password)
}

func (r *recorder) ChangePassword(ctx context.Context, user account.User, old, new []byte) error {
	if err := r.record("change %q %q %q", user, old, new); err != nil || r.next == nil {
		return err
	}
	return r.next.ChangePassword(ctx, user, old, new)
}

func (r *recorder) ResetPassword(ctx context.Context, user account.User, new []byte) error {
	if err := r.record("reset %q %q", user, new); err != nil || r.next == nil {
		return err
	}
	return r.next.ResetPassword(ctx, user, new)
}

// take returns what has arrived since it was called last, sorted.
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.calls
	r.calls = nil
	slices.Sort(calls)
	return calls
}

// assertArrived checks what has arrived since the last time.
func assertArrived(t *testing.T, r *recorder, want ...string) {
	t.Helper()
	if got := r.take(); !slices.Equal(got, want) {
		t.Errorf("arrived: %q\nwant: %q", got, want)
	}
}

func loginOf(user, password string) string { return fmt.Sprintf("login %q %q", user, password) }
