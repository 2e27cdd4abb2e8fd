package cyrus

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
)

// TestAcross takes messages from one user to another in all the ways that Cyrus has: each copy must be under the key of
// whose mailbox it is in, or not be made at all.
func TestAcross(t *testing.T) {
	t.Parallel()
	forLayouts(t, testAcross, legacy, uuid)
}

func testAcross(t *testing.T, l layout) {
	users := []string{"alice", "bob"}
	s := newSite(t, options{layout: l}, users...)
	alice := s.enter(t, "alice")
	alice.OK(t, "CREATE INBOX.Shared")
	alice.OK(t, "SETACL INBOX.Shared bob lrswipkxte")
	alice.Append(t, "INBOX.Shared", "", client.CRLF(client.Message("of alice", 50)))
	s.deliver(t, client.Message("to both", 50), users...)
	s.Unlock(t, users...)

	// The kernel refuses what would put one file into two users' mailboxes.
	from, to := s.messages(t, "alice"), s.messages(t, "bob")
	err := os.Link(from[0].path, filepath.Join(filepath.Dir(to[0].path), "99."))
	if !errors.Is(err, unix.EXDEV) {
		t.Errorf("a link from alice to bob: %v, want EXDEV", err)
	}

	bob := s.enter(t, "bob")
	bob.OK(t, "SELECT user.alice.Shared")
	bob.OK(t, "COPY 1 INBOX")                                                                 // alice's message, to bob
	bob.Append(t, "user.alice.Shared", "", client.CRLF(client.Message("bob's for alice", 5))) // bob's, to alice
	bob.OK(t, "SELECT INBOX")
	bob.OK(t, "COPY 1 user.alice.Shared")
	bob.OK(t, "MOVE 1 user.alice.Shared")
	bob.Close()
	want := map[string]int{"alice": 1 + 1 + 1 + 2, "bob": 2} // what was moved away stays until it is expired
	s.owned(t, want)

	// From a locked user nothing can be copied; nothing is lost by trying.
	s.Lock(t, "alice")
	s.sealed(t, "alice")
	bob = s.enter(t, "bob")
	bob.OK(t, "SELECT user.alice.Shared")
	for _, command := range []string{"COPY 1 INBOX", "MOVE 1 INBOX"} {
		if answer, ok := bob.Try("%s", command); ok && strings.Contains(strings.Join(answer, ""), "COPYUID") {
			t.Errorf("%s from a locked user: %q", command, answer)
		}
	}
	// To one, everything can.
	bob.OK(t, "SELECT INBOX")
	bob.OK(t, "COPY 1 user.alice.Shared")
	bob.Append(t, "user.alice.Shared", "", client.CRLF(client.Message("for locked alice", 5)))
	bob.Close()
	want["alice"] += 2
	s.sealed(t, "alice")
	s.Unlock(t, "alice")
	s.owned(t, want)

	// Shared mailboxes are nobody's: everybody who may can read them.
	root := s.admin(t)
	root.OK(t, "CREATE office")
	root.OK(t, "SETACL office anyone lrswipkxte")
	root.Close()
	bob = s.enter(t, "bob")
	bob.OK(t, "SELECT INBOX")
	bob.OK(t, "COPY 1 office")
	s.Lock(t, users...)
	s.sealed(t, "bob")
	bob.OK(t, "SELECT office")
	if text := strings.Join(bob.OK(t, "FETCH 1 BODY.PEEK[TEXT]"), ""); !strings.Contains(text, "text of") {
		t.Errorf("a shared mailbox: %q", text)
	}
	s.judgeLog(t, nil, `IOERROR: open failed: filename=</srv/mail/\S+/\*\.> syserror=<Permission denied> func=<_copyfile_helper>`)
}

// owned checks that each user has so many messages, that the owner can read them alone, and that the store agrees.
func (s *site) owned(t *testing.T, want map[string]int) {
	t.Helper()
	for user, n := range want {
		if got := len(s.messages(t, user)); got != n {
			t.Errorf("%s has %d files of messages, want %d", user, got, n)
		}
		for other := range want {
			if other == user {
				continue
			}
			s.Lock(t, other)
			s.sealed(t, other)
			s.readable(t, user)
			s.Unlock(t, other)
		}
	}
	if r := s.Call(t, nil, "verify"); r.Code != 0 {
		t.Errorf("verify: exit %d: %s%s", r.Code, r.Out, r.Err)
	}
}

var modseq = regexp.MustCompile(`HIGHESTMODSEQ \d+`)

// TestUserRename renames a user's mailboxes to another user by the administrator's command, locked and unlocked, and back.
// Nothing may be lost by it.
func TestUserRename(t *testing.T) {
	t.Parallel()
	forLayouts(t, testUserRename, legacy, uuid)
}

func testUserRename(t *testing.T, l layout) {
	s := newSite(t, options{layout: l}, "alice")
	s.populate(t, "alice")
	s.Unlock(t, "alice")
	bodies, files := s.bodies(t, "alice"), len(s.messages(t, "alice"))
	before := s.snapshot(t, "alice")
	s.Enroll(t, "alicia")
	s.Lock(t, "alice")
	s.sealed(t, "alice")
	root := s.admin(t)
	t.Run("locked", func(t *testing.T) {
		answer, ok := root.Try("RENAME user.alice user.alicia")
		t.Logf("%v %q", ok, answer)
		if n := len(s.messages(t, "alice")) + len(s.messages(t, "alicia")); n < files {
			t.Errorf("%d files of messages, before %d", n, files)
		}
		if ok {
			s.refused(t, "alicia")
			root.OK(t, "RENAME user.alicia user.alice")
		}
		// A RENAME there and back counts as a change, on any file system.
		client.Same(t, "as before", modseq.ReplaceAllString(before, "*"), modseq.ReplaceAllString(s.snapshot(t, "alice"), "*"))
		s.refused(t, "alice")
	})
	s.Unlock(t, "alice")
	t.Run("unlocked", func(t *testing.T) {
		if now := s.bodies(t, "alice"); !maps.Equal(bodies, now) {
			t.Errorf("other bodies: %d messages, before %d", len(now), len(bodies))
		}
		root.OK(t, "RENAME user.alice user.alicia")
		s.Unlock(t, "alicia")
		if now := s.bodies(t, "alicia"); !maps.Equal(bodies, now) {
			t.Errorf("other bodies: %d messages, before %d", len(now), len(bodies))
		}
		if r := s.Call(t, nil, "verify"); r.Code != 0 {
			t.Errorf("verify: exit %d: %s%s", r.Code, r.Out, r.Err)
		}
	})
	t.Run("deleted", func(t *testing.T) {
		s.Lock(t, "alice", "alicia")
		root.OK(t, "SETACL user.alicia cyrus lrswipkxtecda")
		root.OK(t, "DELETE user.alicia")
		if out, ok := s.tool(t, "cyr_expire", "-E", "1", "-X", "0", "-D", "0"); !ok {
			t.Errorf("cyr_expire: %s", out)
		}
		if left := s.messages(t, ""); len(left) > 0 {
			t.Errorf("left of a user who was deleted: %v", left)
		}
	})
}
