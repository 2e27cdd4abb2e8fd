package dovecot

import (
	"maps"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
)

// TestKeyless gets sessions of a locked user by the ways that do not pass PAM: an administrator's right, doveadm, and a
// password that Dovecot remembers. All see the whole mailbox, get a clear error for texts, and do no lasting damage.
func TestKeyless(t *testing.T) {
	t.Parallel()
	const user = "alice"
	_, h := newSite(t, options{users: []string{user}, cached: true})
	h.populate(t, user)
	h.unlock(t, user)
	want, before := h.bodies(t, user), h.snapshot(t, user)
	h.lock(t, user)
	ways := map[string]func() (*client.IMAP, error){
		"master user":     func() (*client.IMAP, error) { return h.tryLogin(t, user+"*master", "pw") },
		"cached password": func() (*client.IMAP, error) { return h.tryLogin(t, user, h.passwordOf(user)) },
	}
	for name, enter := range ways {
		h.refusedBy(t, enter)
		if h.isUnlocked(t, user) {
			t.Fatalf("%s unlocks", name)
		}
		client.Same(t, name, before, h.snapshot(t, user))
	}
	for _, args := range [][]string{{"fetch", "-u", user, "text", "mailbox", "INBOX"}, {"search", "-u", user, "body", "text"}} {
		if out, ok := h.doveadm(t, args...); ok || !strings.Contains(out, "Permission denied") || strings.Contains(out, "This is the text") {
			t.Errorf("doveadm %q of a locked user: %v %.300s", args, ok, out)
		}
	}
	if out, ok := h.doveadm(t, "-f", "tab", "mailbox", "status", "-u", user, "messages", "INBOX"); !ok || !strings.Contains(out, "\t6") {
		t.Errorf("doveadm mailbox status: %v %s", ok, out)
	}
	client.Same(t, "doveadm", before, h.snapshot(t, user))
	// Once Dovecot has forgotten the password, a login goes through PAM.
	if out, ok := h.doveadm(t, "auth", "cache", "flush"); !ok {
		t.Fatalf("auth cache flush: %s", out)
	}
	h.unlock(t, user)
	if now := h.bodies(t, user); !maps.Equal(want, now) {
		t.Errorf("other bodies than before: %d messages, before %d", len(now), len(want))
	}
	client.Same(t, "unlocked again", before, h.snapshot(t, user))
	h.judgeLog(t, nil)
}

// TestForgottenKey changes a password behind the daemon's back. The next login leaves the user locked, mail goes on
// arriving, and the old password given to passwd mends all.
func TestForgottenKey(t *testing.T) {
	t.Parallel()
	const user, fresh = "alice", "changed elsewhere"
	s, h := newSite(t, options{users: []string{user}})
	h.deliver(t, client.Message("before", 5), user)
	h.unlock(t, user)
	h.deliver(t, client.Message("while unlocked", 5), user)
	h.lock(t, user)
	old := h.passwordOf(user)
	h.changed[user] = fresh
	h.setPasswords(t)
	s.Announce(`PAM request.*op=login user=alice.*wrong secret`)
	c := h.enter(t, user) // the login goes on
	if h.isUnlocked(t, user) {
		t.Fatal("a password that the daemon does not know unlocks")
	}
	if problem, _ := s.Status(t, "--user", user)["problem"].(string); !strings.Contains(problem, "mailcryptfs passwd") {
		t.Errorf("status says %q", problem)
	}
	h.deliver(t, client.Message("while the key is forgotten", 5), user)
	h.sealed(t, user)
	h.refused(t, user)
	must(t, c.Logout())
	before := h.snapshot(t, user)
	if r := s.Passwd(t, user, "not the old one", fresh); r.Code != 77 {
		t.Errorf("passwd with a wrong password: exit %d: %s%s", r.Code, r.Out, r.Err)
	}
	if r := s.Passwd(t, user, old, fresh); r.Code != 0 {
		t.Fatalf("passwd: exit %d: %s%s", r.Code, r.Out, r.Err)
	}
	h.unlock(t, user)
	client.Same(t, "mended", before, h.snapshot(t, user))
	if n := len(h.bodies(t, user)); n != 3 {
		t.Errorf("%d messages, want 3", n)
	}
	if problem := s.Status(t, "--user", user)["problem"]; problem != nil {
		t.Errorf("status still says %v", problem)
	}
	h.judgeLog(t, nil)
}
