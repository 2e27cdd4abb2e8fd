package dovecot

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestOutage kills the daemon under open sessions and takes its dead mount away: mail is deferred, nothing is stored in
// the clear, and when the daemon is back all goes on with the same Dovecot.
func TestOutage(t *testing.T) {
	t.Parallel()
	users := []string{"alice", "bob"}
	s, h := newSite(t, options{users: users, keep: true})
	s.Unlock(t, "alice")
	h.deliver(t, message("before", 5), users...)
	reading := h.login(t, "alice")
	reading.ok(t, "SELECT INBOX")
	idle := h.login(t, "bob")
	idle.ok(t, "SELECT INBOX")
	idle.beginIdle(t)
	var before []string
	for _, u := range users {
		before = append(before, h.snapshot(t, u))
	}
	half := h.begin(t, users...)
	deferred := func(when string, answers []string) {
		t.Helper()
		for i, a := range answers {
			if !strings.HasPrefix(a, "4") {
				t.Errorf("%s: delivery to %s: %s, want 4xx", when, users[i], a)
			}
		}
	}
	s.Kill(t)
	deferred("the daemon died in the middle", half.data(t, message("half", 5)))
	deferred("the daemon is dead", h.lmtp(t, message("while away", 5), users...))
	if all, err := reading.do("FETCH 1 BODY.PEEK[]"); err == nil && strings.HasPrefix(all[len(all)-1], "OK") && len(all) > 1 {
		t.Logf("an open session still reads: %q", all) // from pages that Dovecot holds itself
	}
	must(t, unix.Unmount(s.View, unix.MNT_DETACH))
	deferred("the view is not mounted", h.lmtp(t, message("while away", 5), users...))
	for _, command := range []string{"SELECT INBOX", "CREATE New"} {
		c, err := h.tryLogin(t, users[0], h.passwordOf(users[0]))
		if err != nil {
			continue // no session at all is fine
		}
		if all, err := c.do("%s", command); err == nil && strings.HasPrefix(all[len(all)-1], "OK") {
			t.Errorf("the view is not mounted: %s: %q", command, all)
		}
	}
	if entries, err := os.ReadDir(s.View); err != nil || len(entries) > 0 {
		t.Errorf("beneath the mount point: %v %v", entries, err)
	}
	s.Serve(t)
	for i, u := range users {
		same(t, u+" after the restart", before[i], h.snapshot(t, u))
	}
	h.deliver(t, message("after", 5), users...)
	s.Unlock(t, "bob")
	for _, u := range users {
		if n := len(h.bodies(t, u)); n != 2 {
			t.Errorf("%s has %d messages, want 2", u, n)
		}
	}
	for _, line := range h.complaints(t) {
		if damage.MatchString(line) {
			t.Errorf("dovecot complains: %s", line)
		}
	}
}

// damage is what Dovecot must not come to, however the daemon ends.
var damage = regexp.MustCompile(`Panic|Fatal|signal|[Cc]orrupt`)

// beginIdle sends IDLE and waits for the server's assent.
func (c *imap) beginIdle(t testing.TB) {
	t.Helper()
	must(t, c.conn.SetDeadline(time.Now().Add(patience)))
	_, err := fmt.Fprint(c.conn, "idle IDLE\r\n")
	must(t, err)
	line, err := c.line()
	must(t, err)
	if !strings.HasPrefix(line, "+ ") {
		t.Fatalf("IDLE: %q", line)
	}
}

// TestIdle wants a delivered message to be announced at once, locked or not. A poll of Dovecot's would take 30 s.
func TestIdle(t *testing.T) {
	users := []string{"locked", "unlocked"}
	_, h := newSite(t, options{users: users})
	h.unlock(t, "unlocked")
	for _, u := range users {
		h.deliver(t, message("before", 5), u)
		c := h.login(t, u)
		c.ok(t, "SELECT INBOX")
		c.beginIdle(t)
		best := patience
		// A busy machine may need longer once, not each time.
		for n := 2; n <= 6 && best > 2*time.Second; n++ {
			h.deliver(t, message("news", 5), u)
			began := time.Now()
			for {
				line, err := c.line()
				must(t, err)
				if line == fmt.Sprintf("* %d EXISTS\r\n", n) {
					break
				}
			}
			best = min(best, time.Since(began))
		}
		if best > 2*time.Second {
			t.Errorf("%s: a message was announced after %v", u, best)
		}
	}
}
