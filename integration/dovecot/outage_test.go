package dovecot

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// TestOutage kills the daemon under open sessions, takes its dead mount away, and the store too: mail is deferred,
// nothing is stored in the clear, and when the daemon is back all goes on with the same Dovecot.
func TestOutage(t *testing.T) {
	t.Parallel()
	users := []string{"alice", "bob"}
	s, h := newSite(t, options{users: users, keep: true})
	s.Unlock(t, "alice")
	h.deliver(t, client.Message("before", 5), users...)
	reading := h.login(t, "alice")
	reading.OK(t, "SELECT INBOX")
	idle := h.login(t, "bob")
	idle.OK(t, "SELECT INBOX")
	idle.Idle(t)
	var before []string
	for _, u := range users {
		before = append(before, h.snapshot(t, u))
	}
	back := func(when string) {
		t.Helper()
		s.Serve(t)
		for i, u := range users {
			client.Same(t, u+" after "+when, before[i], h.snapshot(t, u))
		}
	}
	half := h.begin(t, users...)
	s.Kill(t)
	h.deferred(t, "the daemon died in the middle", half.Data(t, client.Message("half", 5)))
	h.deferred(t, "the daemon is dead", h.lmtp(t, client.Message("while away", 5), users...))
	if all, err := reading.Do("FETCH 1 BODY.PEEK[]"); err == nil && strings.HasPrefix(all[len(all)-1], "OK") && len(all) > 1 {
		t.Logf("an open session still reads: %q", all) // from pages that Dovecot holds itself
	}
	must(t, unix.Unmount(s.View, unix.MNT_DETACH))
	h.absent(t, "the view is not mounted")
	back("the daemon's death")

	s.Stop(t)
	h.absent(t, "the daemon has ended")
	must(t, unix.Unmount(s.StoreFS, 0))
	s.Announce("store|level=ERROR")
	if err := s.TryServe(t); err == nil {
		t.Error("the daemon serves a store that is not mounted")
	}
	h.absent(t, "the store is not mounted")
	harness.Run(t, "mount", "-t", "ext4", "-o", "loop,nodev,nosuid", s.Image, s.StoreFS)
	back("the store's absence")

	h.deliver(t, client.Message("after", 5), users...)
	s.Unlock(t, "bob")
	for _, u := range users {
		if n := len(h.bodies(t, u)); n != 2 {
			t.Errorf("%s has %d messages, want 2", u, n)
		}
	}
	h.undamaged(t)
}

// deferred checks that the recipients of a message were all told to come back later.
func (h *host) deferred(t testing.TB, when string, answers []string) {
	t.Helper()
	for i, a := range answers {
		if !strings.HasPrefix(a, "4") {
			t.Errorf("%s: delivery to %s: %s, want 4xx", when, h.users[i], a)
		}
	}
}

// absent checks what Dovecot does while there is no view: it takes no mail, shows no mailbox, and leaves nothing beneath
// the mount point.
func (h *host) absent(t testing.TB, when string) {
	t.Helper()
	h.deferred(t, when, h.lmtp(t, client.Message("while away", 5), h.users...))
	for _, command := range []string{"SELECT INBOX", "CREATE New"} {
		c, err := h.tryLogin(t, h.users[0], h.passwordOf(h.users[0]))
		if err != nil {
			continue // no session at all is fine
		}
		if all, err := c.Do(command); err == nil && strings.HasPrefix(all[len(all)-1], "OK") {
			t.Errorf("%s: %s: %q", when, command, all)
		}
		c.Close()
	}
	if entries, err := os.ReadDir(h.mail); err != nil || len(entries) > 0 {
		t.Errorf("%s: beneath the mount point: %v %v", when, entries, err)
	}
}

// undamaged checks what Dovecot must not come to, however the daemon ends.
func (h *host) undamaged(t testing.TB) {
	t.Helper()
	for _, line := range h.complaints(t) {
		if damage.MatchString(line) {
			t.Errorf("dovecot complains: %s", line)
		}
	}
}

// TestBoot starts Dovecot while nothing is mounted yet, as a machine may that boots: it defers mail until the view comes,
// and then works without being told.
func TestBoot(t *testing.T) {
	t.Parallel()
	users := []string{"alice", "bob"}
	h := prepare(t, options{users: users})
	h.site = harness.New(t, harness.Options{Profile: "dovecot-maildir"})
	h.site.Serve(t) // once, so that there is a store, and users
	h.site.Enroll(t, users...)
	h.homes(t, h.site.View)
	h.site.Stop(t)
	h.start(t, h.site.View)
	h.absent(t, "before the first mount")
	h.site.Serve(t)
	h.deliver(t, client.Message("after the boot", 5), users...)
	h.unlock(t, users...)
	for _, u := range users {
		if n := len(h.bodies(t, u)); n != 1 {
			t.Errorf("%s has %d messages, want 1", u, n)
		}
	}
	h.undamaged(t)
}

var damage = regexp.MustCompile(`Panic|Fatal|signal|[Cc]orrupt`)

// TestIdle wants a delivered message to be announced at once, locked or not. A poll of Dovecot's would take 30 s.
func TestIdle(t *testing.T) {
	_, h := newSite(t, options{users: modes})
	h.unlock(t, "unlocked")
	for _, u := range modes {
		h.deliver(t, client.Message("before", 5), u)
		c := h.login(t, u)
		if u == "cycle" { // a session of the user's own, with the worker beside it
			must(t, c.Logout())
			c = h.enter(t, u)
		}
		c.OK(t, "SELECT INBOX")
		c.Announced(t, u, func() { h.deliver(t, client.Message("news", 5), u) })
	}
}
