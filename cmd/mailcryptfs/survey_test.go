package main

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// census is who is enrolled, for a tally.
type census struct {
	mu     sync.Mutex
	people map[account.User]control.Survey
	looked []account.User
}

func (c *census) look(u account.User) (control.Survey, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked = append(c.looked, u)
	s, enrolled := c.people[u]
	return s, enrolled
}

func (c *census) all() ([]account.User, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var users []account.User
	for u := range c.people {
		users = append(users, u)
	}
	slices.Sort(users)
	return users, nil
}

func (c *census) set(u account.User, s *control.Survey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked = nil
	if s == nil {
		delete(c.people, u)
	} else {
		c.people[u] = *s
	}
}

func (c *census) seen() []account.User {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.looked)
}

func TestTally(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		people := &census{people: map[account.User]control.Survey{
			"alice": {NoWay: true}, "bob": {Codes: 1, Missing: []string{"age1q"}}, "carol": {Keys: 1, Rotation: &control.Rotation{}}, "dave": {Problem: "damaged"},
		}}
		y := newTally()
		y.look, y.all = people.look, people.all
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = ticking(ctx, tallyInterval, y.run)
		}()
		synctest.Wait()
		want := control.RecoveryStatus{Counted: 4, Missing: 1, NoWay: 1, Rotating: 1, Problems: 1}
		if got := y.count(); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		// One user changes many times: he alone is looked at, once.
		people.set("alice", &control.Survey{Codes: 1})
		for range 100 {
			y.changed("alice")
		}
		time.Sleep(3 * tallyInterval)
		synctest.Wait()
		if got := people.seen(); len(got) < 1 || len(got) > 2 || got[0] != "alice" {
			t.Errorf("looked at %q", got)
		}
		if got := y.count(); got.NoWay != 0 || got.Counted != 4 {
			t.Errorf("%+v", got)
		}
		// Everybody again: who is gone is not counted any more.
		people.set("dave", nil)
		y.changed("")
		time.Sleep(3 * tallyInterval)
		synctest.Wait()
		if got := y.count(); got.Counted != 3 || got.Problems != 0 || len(people.seen()) != 3 {
			t.Errorf("%+v, looked at %q", got, people.seen())
		}
		people.set("carol", nil) // forgotten
		y.changed("carol")
		time.Sleep(3 * tallyInterval)
		synctest.Wait()
		if got := y.count(); got.Counted != 2 || got.Rotating != 0 {
			t.Errorf("%+v", got)
		}
		cancel()
		<-ended
	})
}
