package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// tallyInterval is how often the count catches up at most.
const tallyInterval = 2 * time.Second

// tally counts users by what opens their mail if the passwords are lost. It looks at everybody once, and then at those
// whose keys have changed, so that the count costs nothing at a large site. Safe for concurrent use.
type tally struct {
	look func(account.User) (control.Survey, bool) // false: the user is not enrolled
	all  func() ([]account.User, error)
	wake chan struct{}

	mu    sync.Mutex
	dirty map[account.User]bool           // guarded by mu, as all below
	again bool                            // look at everybody
	known map[account.User]control.Survey // of enrolled users
}

func newTally() *tally {
	return &tally{
		wake: make(chan struct{}, 1), dirty: make(map[account.User]bool), again: true, known: make(map[account.User]control.Survey),
	}
}

// of says where to look; it comes before run.
func (t *tally) of(k *slotKeeper) {
	t.all = k.slots.Users
	t.look = func(u account.User) (control.Survey, bool) {
		if _, err := k.slots.Slots(u); errors.Is(err, secret.ErrNotEnrolled) {
			return control.Survey{}, false
		}
		return k.survey(u), true
	}
}

// changed notes that the user's keys, or with the empty name everybody's, are to be looked at again. It does not block.
func (t *tally) changed(u account.User) {
	t.mu.Lock()
	if u == "" {
		t.again = true
	} else {
		t.dirty[u] = true
	}
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// run looks until ctx ends. Of many changes within a tick each user is looked at once.
func (t *tally) run(ctx context.Context, tick <-chan time.Time) {
	for {
		t.catchUp(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		}
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
	}
}

func (t *tally) catchUp(ctx context.Context) {
	for _, u := range t.due() {
		if ctx.Err() != nil {
			return
		}
		s, enrolled := t.look(u)
		t.mu.Lock()
		if enrolled {
			t.known[u] = s
		} else {
			delete(t.known, u)
		}
		t.mu.Unlock()
	}
}

func (t *tally) due() []account.User {
	t.mu.Lock()
	again, dirty := t.again, t.dirty
	t.again, t.dirty = false, make(map[account.User]bool)
	t.mu.Unlock()
	if !again {
		users := make([]account.User, 0, len(dirty))
		for u := range dirty {
			users = append(users, u)
		}
		return users
	}
	users, _ := t.all() // what cannot be listed is reported by status itself
	t.mu.Lock()
	defer t.mu.Unlock()
	left := make(map[account.User]control.Survey, len(users))
	for _, u := range users {
		if s, ok := t.known[u]; ok {
			left[u] = s
		}
	}
	t.known = left
	return users
}

// count adds up what was seen.
func (t *tally) count() control.RecoveryStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := control.RecoveryStatus{Counted: len(t.known)}
	for _, s := range t.known {
		if s.Problem != "" {
			c.Problems++
			continue
		}
		if len(s.Missing) > 0 {
			c.Missing++
		}
		if s.NoWay {
			c.NoWay++
		}
		if s.Rotation != nil {
			c.Rotating++
		}
	}
	return c
}
