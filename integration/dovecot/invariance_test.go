package dovecot

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
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
	messages := h.populate(t, user)
	sync := h.newMbsync(t, user)
	s.Unlock(t, user)
	bodies, dates, local := h.bodies(t, user), h.dates(t, user), sync.run(t)
	if len(bodies) != messages || len(local) != messages {
		t.Fatalf("%d messages, mbsync has %d, want %d", len(bodies), len(local), messages)
	}
	s.Lock(t, user)
	before := h.snapshot(t, user)
	open := h.login(t, user)
	open.OK(t, "SELECT INBOX")
	check := func(step string, unlocked bool) {
		t.Helper()
		client.Same(t, step, before, h.snapshot(t, user))
		if news := open.OK(t, "NOOP"); len(news) > 0 {
			t.Errorf("%s: an open session hears %q", step, news)
		}
		if now := sync.run(t); !maps.Equal(local, now) {
			t.Errorf("%s: mbsync changed its copy: %q, before %q", step, now, local)
		}
		client.Same(t, step+", and mbsync", before, h.snapshot(t, user))
		if !unlocked {
			h.refused(t, user)
			return
		}
		if now := h.bodies(t, user); !maps.Equal(bodies, now) {
			t.Errorf("%s: other bodies: %d messages, before %d", step, len(now), len(bodies))
		}
		client.Same(t, step, dates, h.dates(t, user))
	}
	reopen := func() {
		open.Close()
		open = h.login(t, user)
		open.OK(t, "SELECT INBOX")
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
		open.Close()
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

// populate fills a mailbox and returns how many messages it has.
func (h *host) populate(t testing.TB, user string) int {
	t.Helper()
	c := h.login(t, user)
	defer c.Close()
	return client.NewSorted("").Populate(t, c, func(message string) { h.deliver(t, message, user) })
}

// refused checks what a session of a locked user gets: a full mailbox, whose messages cannot be opened.
func (h *host) refused(t testing.TB, user string) {
	t.Helper()
	h.refusedBy(t, func() (*client.IMAP, error) { return h.tryLogin(t, user+"*master", "pw") })
}

// refusedBy is refused for sessions that are made in a way of their own.
func (h *host) refusedBy(t testing.TB, enter func() (*client.IMAP, error)) {
	t.Helper()
	for _, item := range []string{"BODY.PEEK[]", "BODY.PEEK[HEADER]", "BODY.PEEK[TEXT]"} {
		c, err := enter()
		must(t, err)
		if answer := c.OK(t, "SELECT INBOX"); slices.Contains(answer, "* 0 EXISTS") {
			t.Errorf("the mailbox of a locked user is empty: %q", answer)
		}
		all, err := c.Do("FETCH 1 " + item)
		text := strings.Join(all, "\n")
		if err == nil && strings.Contains(text, "\nOK") || strings.Contains(text, "text of") {
			t.Errorf("FETCH %s of a locked user: %q %v", item, all, err)
		}
		if !strings.Contains(text, "* BYE FETCH failed") && !strings.HasPrefix(all[len(all)-1], "NO ") {
			t.Errorf("FETCH %s of a locked user says nothing of an error: %q %v", item, all, err)
		}
		c.Close()
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
		text := client.CRLF(client.Message(fmt.Sprintf("number %d", i), 1))
		fmt.Fprintf(&all, " {%d+}\r\n%s", len(text), text)
	}
	c.OK(t, "APPEND INBOX%s", all.String())
	c.OK(t, "SELECT INBOX")
	const fetch = "FETCH 1:* (UID ENVELOPE)"
	want := c.OK(t, fetch)
	if again := c.OK(t, fetch); len(want) != n || !slices.Equal(again, want) {
		t.Fatalf("%d envelopes, then %d, want %d", len(want), len(again), n)
	}
	for range 3 {
		s.Lock(t, user)
		h.deliver(t, client.Message("meanwhile", 1), user)
		if _, err := c.Do(fetch); err != nil {
			c.Close()
			c = h.login(t, user)
			c.OK(t, "SELECT INBOX")
		}
		c.OK(t, "STORE 1:* +FLAGS (key)")
		h.refused(t, user)
		s.Unlock(t, user)
		c.OK(t, "NOOP")
		if now := c.OK(t, fetch); len(now) < n || !slices.Equal(now[:n], want) {
			t.Fatalf("%d envelopes after the lock, or others than before", len(now))
		}
	}
	h.judgeLog(t, nil)
}
