package cyrus

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// grace is what a login has until its session begins: enough on a busy machine.
const grace = 8 * time.Second

var sessionProcess = regexp.MustCompile(`(\w+) session of process (\d+) \(Cyrus\)`)

// because waits until the daemon knows of a session of the service, and returns its process id.
func (s *site) because(t testing.TB, user, service string) int {
	t.Helper()
	var m []string
	harness.Eventually(t, patience, "the daemon knows of the session", func() bool {
		text, _ := s.Status(t, "--user", user)["because"].(string)
		m = sessionProcess.FindStringSubmatch(text)
		return m != nil && m[1] == service
	})
	pid, err := strconv.Atoi(m[2])
	must(t, err)
	return pid
}

// waitLocked waits until a user is locked, and no message can be opened.
func (s *site) waitLocked(t testing.TB, user string) {
	t.Helper()
	began := time.Now()
	harness.Eventually(t, patience, user+" is locked", func() bool { return !s.unlocked(t, user) })
	t.Logf("locked after %v, with a grace of %v", time.Since(began), grace)
	s.sealed(t, user)
}

// hold waits for longer than the grace and checks that the user is still unlocked.
func (s *site) hold(t testing.TB, user string) {
	t.Helper()
	held := time.After(grace + 2*time.Second)
	<-held
	if !s.unlocked(t, user) {
		t.Fatalf("%s was locked in the middle of a session", user)
	}
}

// TestSession follows users from the first login to the last logout: they get a key by it, what was delivered before goes
// under that key, and with the last session they are locked.
func TestSession(t *testing.T) {
	t.Parallel()
	forLayouts(t, testSession, legacy, uuid)
}

func testSession(t *testing.T, l layout) {
	const user = "alice"
	s := newSiteOf(t, options{layout: l, grace: grace, lines: "enroll = \"auto\"\nrecovery = \"none\"\n"}, user, "bob")
	s.script(t, user)
	for i, subject := range []string{"plain 1", "flags-new 2", "to-new 3"} {
		s.deliver(t, client.Message(subject, 100*i), user, "bob")
	}
	before := s.snapshot(t, user)

	c := s.login(t, user)
	c.OK(t, "SELECT INBOX")
	if text := strings.Join(c.OK(t, "FETCH 1 BODY.PEEK[]"), ""); !strings.Contains(text, "text of plain 1") {
		t.Fatalf("FETCH: %q", text)
	}
	s.because(t, user, "imap")
	if r := s.Call(t, nil, "encrypt", user, "--wait"); r.Code != 0 && r.Code != 75 {
		t.Fatalf("encrypt: exit %d: %s%s", r.Code, r.Out, r.Err)
	}
	s.deliver(t, client.Message("plain 4", 5), user)
	s.hold(t, user)
	second := s.login(t, user)
	c.OK(t, "LOGOUT")
	s.because(t, user, "imap")
	second.OK(t, "SELECT INBOX")
	// bob gets the process that served alice; that does not keep her unlocked.
	second.OK(t, "LOGOUT")
	other := s.login(t, "bob")
	other.OK(t, "SELECT INBOX")
	s.waitLocked(t, user)
	s.refused(t, user)
	s.because(t, "bob", "imap")

	// The second login needs the password, and POP3 is a session too.
	p := client.NewPOP3(t, s.dial(t, "tcp", s.addr("pop3")))
	p.Login(t, user, string(harness.Password(user)))
	s.because(t, user, "pop3")
	if list := p.Lines(t, "RETR 1"); !slices.Contains(list, "This is the text of plain 1.") {
		t.Errorf("POP3: %q", list)
	}
	p.Close()
	s.waitLocked(t, user)

	// A process that was killed leaves its file behind.
	c = s.login(t, user)
	c.OK(t, "SELECT INBOX")
	pid := s.because(t, user, "imap")
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	s.waitLocked(t, user)
	if _, err := os.Stat(s.path(fmt.Sprintf("/run/cyrus/proc/%d", pid))); err != nil {
		t.Logf("Cyrus took the file of a killed process away: %v", err)
	}

	// Neither a wrong password nor an administrator unlocks anybody.
	if answer, ok := s.connect(t).Login(user, "wrong"); ok {
		t.Errorf("a login with a wrong password: %q", answer)
	}
	c = s.enter(t, user)
	c.OK(t, "SELECT INBOX")
	if s.unlocked(t, user) {
		t.Error("unlocked without the password")
	}
	s.refused(t, user)

	c = s.login(t, user)
	if after := s.snapshot(t, user); len(after) < len(before) {
		t.Errorf("the mailbox has lost something: %s\n\n%s", before, after)
	}
	if n := len(s.bodies(t, user)); n != 4 {
		t.Errorf("%d messages, want 4", n)
	}
	c.OK(t, "LOGOUT")
	s.judgeLog(t, nil, `signal \* \(Killed\)`)
}

// TestIdle wants a delivered message to be announced at once, locked or not. A poll of Cyrus' would take a minute.
func TestIdle(t *testing.T) {
	t.Parallel()
	users := []string{"locked", "unlocked"}
	s := newSite(t, options{layout: legacy}, users...)
	s.Unlock(t, "unlocked")
	for _, u := range users {
		s.deliver(t, client.Message("before", 5), u)
		c := s.enter(t, u)
		c.OK(t, "SELECT INBOX")
		c.Announced(t, u, func() { s.deliver(t, client.Message("news", 5), u) })
		c.Close()
	}
}
