package dovecot

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestInvariance changes everything about how a mailbox is stored and whether it can be read, and wants clients to see
// the same mailbox as before, in new sessions and in one that is open all the time.
func TestInvariance(t *testing.T) {
	t.Parallel()
	const user = "alice"
	s, h := newSite(t, options{users: []string{user}, keep: true})
	h.populate(t, user)
	before := h.snapshot(t, user)
	open := h.login(t, user)
	open.ok(t, "SELECT INBOX")
	var bodies map[string]string
	check := func(step string, unlocked bool) {
		t.Helper()
		same(t, step, before, h.snapshot(t, user))
		if news := open.ok(t, "NOOP"); len(news) > 0 {
			t.Errorf("%s: an open session hears %q", step, news)
		}
		if !unlocked {
			h.refused(t, user)
			return
		}
		now := h.bodies(t, user)
		if bodies == nil {
			bodies = now
		}
		if !maps.Equal(bodies, now) {
			t.Errorf("%s: other bodies: %d messages, before %d", step, len(now), len(bodies))
		}
	}
	reopen := func() {
		_ = open.conn.Close()
		open = h.login(t, user)
		open.ok(t, "SELECT INBOX")
	}
	restart := func() {
		s.Kill(t)
		s.Serve(t)
		reopen() // the files of every session are gone
	}
	h.sealed(t, user)
	check("the delivery key has gone", false)
	s.Unlock(t, user)
	check("unlock", true)
	s.Lock(t, user)
	check("lock", false)
	restart()
	check("restart while locked", false)
	s.Unlock(t, user)
	restart()
	check("restart while unlocked", true)
	for _, verb := range []string{"decrypt", "encrypt"} {
		// Index files that a session has open are converted when it ends.
		_ = open.conn.Close()
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
	if want := 3*4 + 2; len(bodies) != want {
		t.Errorf("%d messages, want %d", len(bodies), want)
	}
	h.judgeLog(t, nil)
}

// populate fills a mailbox: two folders and a renamed one, flags, keywords, dates, subscriptions, and a missing UID.
func (h *host) populate(t testing.TB, user string) {
	t.Helper()
	c := h.login(t, user)
	defer func() { _ = c.conn.Close() }()
	for _, command := range []string{"CREATE Work", "CREATE Old/Name", "CREATE Empty", "RENAME Old/Name New.Name", "SUBSCRIBE Work", "SUBSCRIBE New.Name"} {
		c.ok(t, "%s", strings.ReplaceAll(command, "Old/Name", "Old.Name"))
	}
	for i, subject := range []string{"plain", "to-work", "to-flags", "flags-new"} {
		for j := range 3 {
			h.deliver(t, message(fmt.Sprintf("%s %d", subject, j), 40*i*j), user)
		}
	}
	old := crlf(message("appended", 200))
	for range 3 {
		c.ok(t, "APPEND New.Name (\\Answered $Later) \"05-Mar-2011 07:08:09 +0100\" {%d+}\r\n%s", len(old), old)
	}
	for _, command := range []string{"SELECT New.Name", "STORE 2 +FLAGS (\\Deleted)", "EXPUNGE", "SELECT INBOX", "STORE 1 +FLAGS (\\Draft mine)", "CLOSE"} {
		c.ok(t, "%s", command)
	}
}

// refused checks what a session of a locked user gets: a full mailbox, whose messages cannot be opened.
func (h *host) refused(t testing.TB, user string) {
	t.Helper()
	c := h.login(t, user)
	defer func() { _ = c.conn.Close() }()
	answer := c.ok(t, "SELECT INBOX")
	if slices.Contains(answer, "* 0 EXISTS") {
		t.Errorf("the mailbox of a locked user is empty: %q", answer)
	}
	for _, item := range []string{"BODY.PEEK[]", "BODY.PEEK[HEADER]", "BODY.PEEK[TEXT]"} {
		c := h.login(t, user)
		c.ok(t, "SELECT INBOX")
		all, err := c.do("FETCH 1 %s", item)
		text := strings.Join(all, "\n")
		if err == nil && strings.Contains(text, "\nOK") || strings.Contains(text, "text of") {
			t.Errorf("FETCH %s of a locked user: %q %v", item, all, err)
		}
		if !strings.Contains(text, "* BYE FETCH failed") && !strings.HasPrefix(all[len(all)-1], "NO ") {
			t.Errorf("FETCH %s of a locked user says nothing of an error: %q %v", item, all, err)
		}
		_ = c.conn.Close()
	}
}

// TestLockUnderSession locks a user while a session has the mailbox open and its header cache mapped: whatever the session
// gets, it must not be ended by a signal, and nothing may be missing afterwards.
func TestLockUnderSession(t *testing.T) {
	t.Parallel()
	const user, n = "alice", 400
	s, h := newSite(t, options{users: []string{user}, keep: true})
	s.Unlock(t, user)
	c := h.login(t, user)
	var all strings.Builder
	for i := range n {
		text := crlf(message(fmt.Sprintf("number %d", i), 1))
		fmt.Fprintf(&all, " {%d+}\r\n%s", len(text), text)
	}
	c.ok(t, "APPEND INBOX%s", all.String())
	c.ok(t, "SELECT INBOX")
	const fetch = "FETCH 1:* (UID ENVELOPE)"
	want := c.ok(t, fetch)
	if again := c.ok(t, fetch); len(want) != n || !slices.Equal(again, want) {
		t.Fatalf("%d envelopes, then %d, want %d", len(want), len(again), n)
	}
	for range 3 {
		s.Lock(t, user)
		h.deliver(t, message("meanwhile", 1), user)
		if _, err := c.do(fetch); err != nil {
			_ = c.conn.Close()
			c = h.login(t, user)
			c.ok(t, "SELECT INBOX")
		}
		c.ok(t, "STORE 1:* +FLAGS (key)")
		h.refused(t, user)
		s.Unlock(t, user)
		c.ok(t, "NOOP")
		if now := c.ok(t, fetch); len(now) < n || !slices.Equal(now[:n], want) {
			t.Fatalf("%d envelopes after the lock, or others than before", len(now))
		}
	}
	h.judgeLog(t, nil)
}
