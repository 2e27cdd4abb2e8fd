package dovecot

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestInvariance changes everything about how a mailbox is stored and whether it can be read, and wants clients to see
// the same mailbox as before, in new sessions, in one that is open all the time, and in a copy that mbsync keeps.
func TestInvariance(t *testing.T) {
	t.Parallel()
	forLayouts(t, options{users: []string{"alice"}, keep: true}, invariance)
}

func invariance(t *testing.T, h *host) {
	const user = "alice"
	s := h.site
	h.populate(t, user)
	sync := h.newMbsync(t, user)
	s.Unlock(t, user)
	bodies, dates, local := h.bodies(t, user), h.dates(t, user), sync.run(t)
	if want := 3*4 + 2; len(bodies) != want || len(local) != want {
		t.Fatalf("%d messages, mbsync has %d, want %d", len(bodies), len(local), want)
	}
	s.Lock(t, user)
	before := h.snapshot(t, user)
	open := h.login(t, user)
	open.ok(t, "SELECT INBOX")
	check := func(step string, unlocked bool) {
		t.Helper()
		same(t, step, before, h.snapshot(t, user))
		if news := open.ok(t, "NOOP"); len(news) > 0 {
			t.Errorf("%s: an open session hears %q", step, news)
		}
		if now := sync.run(t); !maps.Equal(local, now) {
			t.Errorf("%s: mbsync changed its copy: %q, before %q", step, now, local)
		}
		same(t, step+", and mbsync", before, h.snapshot(t, user))
		if !unlocked {
			h.refused(t, user)
			return
		}
		if now := h.bodies(t, user); !maps.Equal(bodies, now) {
			t.Errorf("%s: other bodies: %d messages, before %d", step, len(now), len(bodies))
		}
		same(t, step, dates, h.dates(t, user))
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
	check("lock", false)
	s.Unlock(t, user)
	check("unlock", true)
	restart()
	check("restart while unlocked", true)
	s.Lock(t, user)
	restart()
	check("restart while locked", false)
	s.Unlock(t, user)
	for _, verb := range []string{"decrypt", "encrypt"} {
		// Index files that a session has open are converted when it ends.
		_ = open.conn.Close()
		if r := s.Call(t, nil, verb, user, "--wait"); r.Code != 0 {
			t.Fatalf("%s: exit %d: %s%s", verb, r.Code, r.Out, r.Err)
		}
		reopen()
		check(verb, true)
	}
	h.changePassword(t, user, "another one")
	check("change of password", true)
	s.Lock(t, user)
	check("lock at the end", false)
	h.unlock(t, user)
	check("login with the new password", true)
	h.judgeLog(t, nil)
}

// changePassword gives a user another password, everywhere.
func (h *host) changePassword(t testing.TB, user, fresh string) {
	t.Helper()
	if r := h.site.Passwd(t, user, h.passwordOf(user), fresh); r.Code != 0 {
		t.Fatalf("passwd: exit %d: %s%s", r.Code, r.Out, r.Err)
	}
	h.changed[user] = fresh
	h.setPasswords(t)
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
	h.refusedBy(t, func() (*imap, error) { return h.tryLogin(t, user+"*master", "pw") })
}

// refusedBy is refused for sessions that are made in a way of their own.
func (h *host) refusedBy(t testing.TB, enter func() (*imap, error)) {
	t.Helper()
	for _, item := range []string{"BODY.PEEK[]", "BODY.PEEK[HEADER]", "BODY.PEEK[TEXT]"} {
		c, err := enter()
		must(t, err)
		if answer := c.ok(t, "SELECT INBOX"); slices.Contains(answer, "* 0 EXISTS") {
			t.Errorf("the mailbox of a locked user is empty: %q", answer)
		}
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
