package fs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

const stormRounds, stormMessages = 9, 3

// storm is mailboxes of which everything happens to at once.
type storm struct {
	m     mount
	boxes [4]string
	hands [4]sync.RWMutex // Cyrus' lock of each mailbox
}

// TestCyrusStorm renames mailboxes between users while they are used, and users are locked and converted: no message may
// become unreadable for good.
func TestCyrusStorm(t *testing.T) {
	m := mountCyrus(t, t.TempDir())
	s := &storm{m: m}
	for i := range s.boxes {
		s.boxes[i] = m.box(t, fmt.Sprint("ab", i), "user.alice.x")
	}
	var users, rest sync.WaitGroup
	ctx, done := context.WithCancel(t.Context())
	for i := range s.boxes {
		users.Go(func() { s.use(t, i) })
		rest.Go(func() { s.read(ctx, t, s.boxes[i]) })
	}
	rest.Go(func() { s.convert(ctx, t) })
	users.Wait()
	done()
	rest.Wait()
	for _, dir := range s.boxes {
		rehead(t, dir, "user.carol.x")
	}
	for range 2 { // a file with links in mailboxes of several owners loses one of them at a time
		m.encrypt(t, "alice", 0)
		m.encrypt(t, "bob", 0)
	}
	m.lockUser("alice")
	m.lockUser("bob")
	for _, dir := range s.boxes {
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) < stormMessages*stormRounds {
			t.Errorf("%d entries, %v", len(entries), err)
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), "cyrus") {
				reads(t, dir+"/"+e.Name(), "text")
			}
		}
	}
	if left, err := os.ReadDir(m.store + "/.mailcryptfs/mailboxes"); err != nil || len(left) != 0 {
		t.Errorf("records of former owners: %v, %v", left, err)
	}
}

// use gives a mailbox from hand to hand, and delivers to it and copies from it in between.
func (s *storm) use(t *testing.T, i int) {
	dir := s.boxes[i]
	for n := range stormRounds {
		s.hands[i].Lock()
		rehead(t, dir, []string{"user.alice.x", "user.bob.x", "public"}[n%3])
		s.hands[i].Unlock()
		for uid := stormMessages * n; uid < stormMessages*(n+1); uid++ {
			s.hands[i].RLock()
			from, to := fmt.Sprintf("%s/%d.", dir, uid), fmt.Sprintf("%s/9%d%d.", s.boxes[(i+n)%len(s.boxes)], i, uid)
			write(t, from, "text")
			if err := os.Link(from, to); err != nil && !errors.Is(err, unix.EXDEV) {
				t.Error(err)
			}
			s.hands[i].RUnlock()
		}
	}
}

// read reads all messages of a mailbox: each has its content, or cannot be opened.
func (s *storm) read(ctx context.Context, t *testing.T, dir string) {
	for ctx.Err() == nil {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Error(err)
		}
		for _, e := range entries {
			b, err := os.ReadFile(dir + "/" + e.Name())
			if err == nil && len(b) > 0 && !strings.HasPrefix(e.Name(), "cyrus") && string(b) != "text" {
				t.Errorf("%s has %q", e.Name(), b)
			}
		}
	}
}

// convert converts and locks users in turn.
func (s *storm) convert(ctx context.Context, t *testing.T) {
	for ctx.Err() == nil {
		for _, u := range []account.User{"alice", "bob"} {
			if _, err := s.m.Encrypt(ctx, u, false, nil); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			s.m.lockUser(u)
			s.m.keys.lock(u, false)
		}
	}
}
