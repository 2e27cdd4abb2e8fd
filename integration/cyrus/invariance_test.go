package cyrus

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// TestInvariance changes everything about how a mailbox is stored and whether it can be read, and wants clients to see
// the same mailbox as before, in new sessions and in one that is open all the time.
func TestInvariance(t *testing.T) {
	t.Parallel()
	forLayouts(t, testInvariance, legacy, uuid)
}

func testInvariance(t *testing.T, l layout) {
	const user = "alice"
	s := newSite(t, options{layout: l}, user)
	messages := s.populate(t, user)
	before := s.snapshot(t, user)
	open := s.enter(t, user)
	open.OK(t, "SELECT INBOX")
	var bodies map[string]string
	check := func(step string, unlocked bool) {
		t.Helper()
		client.Same(t, step, before, s.snapshot(t, user))
		if news := open.OK(t, "NOOP"); len(news) > 0 {
			t.Errorf("%s: an open session hears %q", step, news)
		}
		if !unlocked {
			s.refused(t, user)
			if text, ok := open.Try("FETCH 1 BODY.PEEK[TEXT]"); strings.Contains(strings.Join(text, ""), "text of") {
				t.Errorf("%s: an open session reads %q %v", step, text, ok)
			}
			return
		}
		now := s.bodies(t, user)
		if bodies == nil {
			bodies = now
		}
		if !maps.Equal(bodies, now) {
			t.Errorf("%s: other bodies: %d messages, before %d", step, len(now), len(bodies))
		}
	}
	reopen := func() {
		open.Close()
		open = s.enter(t, user)
		open.OK(t, "SELECT INBOX")
	}
	restart := func() {
		s.Kill(t)
		s.Serve(t)
		reopen() // the files of every session are gone
	}
	s.sealed(t, user)
	check("the delivery key has gone", false)
	s.Unlock(t, user)
	check("unlock", true)
	s.sizes(t, user)
	s.Lock(t, user)
	check("lock", false)
	restart()
	check("restart while locked", false)
	s.Unlock(t, user)
	restart()
	check("restart while unlocked", true)
	for _, verb := range []string{"decrypt", "encrypt"} {
		open.Close() // what a session has open is converted when it ends
		if r := s.Call(t, nil, verb, user, "--wait"); r.Code != 0 {
			t.Fatalf("%s: exit %d: %s%s", verb, r.Code, r.Out, r.Err)
		}
		reopen()
		check(verb, true)
	}
	s.Lock(t, user)
	check("lock after conversion", false)
	s.Unlock(t, user)
	check("unlock at the end", true)
	if len(bodies) != messages {
		t.Errorf("%d messages, want %d", len(bodies), messages)
	}
	out, ok := s.tool(t, "reconstruct", "-r", "-n", "-G", "user."+user)
	if !ok || strings.Contains(out, "mismatch") || strings.Contains(out, "missing") {
		t.Errorf("reconstruct: %s", out)
	}
	if r := s.Call(t, nil, "verify"); r.Code != 0 {
		t.Errorf("verify: exit %d: %s%s", r.Code, r.Out, r.Err)
	}
	s.judgeLog(t, nil)
}

// populate fills a mailbox, gives it a quota, and returns how many messages it has.
func (s *site) populate(t testing.TB, user string) int {
	t.Helper()
	s.script(t, user)
	root := s.admin(t)
	root.OK(t, "SETQUOTA user.%s (STORAGE 100000)", user)
	root.Close()
	c := s.enter(t, user)
	defer c.Close()
	return client.NewSorted(prefix).Populate(t, c, func(message string) { s.deliver(t, message, user) })
}

// sizes checks that every message has the size that Cyrus says it has.
func (s *site) sizes(t testing.TB, user string) {
	t.Helper()
	c := s.enter(t, user)
	defer c.Close()
	for _, folder := range c.Folders(t, own) {
		c.OK(t, "EXAMINE %q", folder)
		for _, line := range c.OK(t, "UID FETCH 1:* (RFC822.SIZE BODY.PEEK[])") {
			var seq, uid, size, length int
			head, text, _ := strings.Cut(line, "\r\n")
			if _, err := fmt.Sscanf(head, "* %d FETCH (UID %d RFC822.SIZE %d BODY[] {%d}", &seq, &uid, &size, &length); err != nil {
				t.Errorf("%s: %q: %v", folder, head, err)
			}
			if size != length || len(text) != length+len(")") {
				t.Errorf("%s: message %d has %d bytes, not %d or %d", folder, uid, len(text)-1, size, length)
			}
		}
	}
}

// TestPassword changes the password of a user in a session, and wants nothing else to change.
func TestPassword(t *testing.T) {
	t.Parallel()
	const user = "alice"
	s := newSite(t, options{layout: legacy}, user)
	s.populate(t, user)
	c := s.login(t, user)
	c.OK(t, "SELECT INBOX")
	before, bodies := s.snapshot(t, user), s.bodies(t, user)
	s.changePassword(t, user, string(harness.Password(user)), "another one")
	client.Same(t, "the password was changed", before, s.snapshot(t, user))
	c.OK(t, "FETCH 1:* BODY.PEEK[]")
	c.Close()
	s.Lock(t, user)
	s.refused(t, user)
	if answer, ok := s.connect(t).Login(user, string(harness.Password(user))); ok {
		t.Errorf("a login with the old password: %q", answer)
	}
	s.refused(t, user)
	if answer, ok := s.connect(t).Login(user, "another one"); !ok {
		t.Fatalf("a login with the new password: %q", answer)
	}
	client.Same(t, "a login with the new password", before, s.snapshot(t, user))
	if now := s.bodies(t, user); !maps.Equal(bodies, now) {
		t.Errorf("other bodies: %d messages, before %d", len(now), len(bodies))
	}
}

// changePassword changes a user's login password and tells mailcryptfs, as an administrator may do it by hand.
func (s *site) changePassword(t testing.TB, user, old, fresh string) {
	t.Helper()
	s.passwords(t, map[string]string{user: fresh})
	if r := s.Passwd(t, user, old, fresh); r.Code != 0 {
		t.Fatalf("passwd: exit %d: %s%s", r.Code, r.Out, r.Err)
	}
}
