// Package session tests logins, sessions and their ends from outside: a real Dovecot logs users in through PAM, and the
// daemon notices when they leave.
package session

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"github.com/mailcryptfs/mailcryptfs/integration/session/imaphost"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, nil)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// grace is what a login has until its session begins: enough on a busy machine.
const grace = 8 * time.Second

// newSite makes a site with further lines of configuration and starts its daemon.
func newSite(t testing.TB, config string) *harness.Site {
	t.Helper()
	s := harness.New(t, harness.Options{Profile: "dovecot-maildir"})
	f, err := os.OpenFile(s.Config, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(config)
	must(t, errors.Join(err, f.Close()))
	s.Serve(t)
	return s
}

// deliver puts a message in a user's mailbox in the view.
func deliver(t testing.TB, s *harness.Site, user, name, marker string) string {
	t.Helper()
	box := filepath.Join(s.View, user)
	for _, dir := range []string{box, box + "/cur", box + "/new", box + "/tmp"} {
		must(t, os.MkdirAll(dir, 0o700))
		must(t, os.Chown(dir, imaphost.UID, imaphost.UID))
	}
	path := filepath.Join(box, "new", name)
	text := fmt.Sprintf("From: a@example.net\nSubject: subject-%s\n\n%s", marker, strings.Repeat("body-"+marker+"\n", 300))
	must(t, os.WriteFile(path, []byte(text), 0o600))
	must(t, os.Chown(path, imaphost.UID, imaphost.UID))
	return path
}

func isUnlocked(t testing.TB, s *harness.Site, user string) bool {
	t.Helper()
	return userStatus(t, s, user)["unlocked"] == true
}

// userStatus is what status says of a user, enrolled or not.
func userStatus(t testing.TB, s *harness.Site, user string) map[string]any {
	t.Helper()
	return s.Status(t, "--user", user)
}

// waitLocked waits until the user is locked and returns how long that took.
func waitLocked(t testing.TB, s *harness.Site, user string, limit time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	harness.Eventually(t, limit, user+" is locked", func() bool { return !isUnlocked(t, s, user) })
	return time.Since(began)
}

var sessionProcess = regexp.MustCompile(`imap session of process (\d+) \(Dovecot\)`)

// becauseOfIMAP waits until the daemon knows of an imap session, and returns its process id.
func becauseOfIMAP(t testing.TB, s *harness.Site, user string) int {
	t.Helper()
	var m []string
	harness.Eventually(t, time.Minute, "the daemon knows of the session", func() bool {
		because, _ := userStatus(t, s, user)["because"].(string)
		m = sessionProcess.FindStringSubmatch(because)
		return m != nil
	})
	pid, err := strconv.Atoi(m[1])
	must(t, err)
	return pid
}

func TestDovecot(t *testing.T) {
	h := imaphost.Prepare(t)
	s := newSite(t, fmt.Sprintf("anvil = %q\ngrace = %q\nenroll = \"auto\"\nrecovery = \"none\"\n", h.Anvil, grace))
	users := map[string]string{"alice": "correct horse", "bob": "tr0ub4dor"}
	h.Start(t, s, imaphost.Options{Users: users, Module: true})
	path := deliver(t, s, "alice", "1.m.host", "one")

	// The first login gives alice a key and unlocks her; her mail goes under it.
	began := time.Now()
	c := h.Login(t, "alice", users["alice"])
	t.Logf("first login: %v", time.Since(began))
	c.Do(t, "SELECT INBOX")
	if text := c.Do(t, "FETCH 1 BODY.PEEK[]"); !strings.Contains(text, "body-one") {
		t.Fatalf("FETCH: %s", text)
	}
	process := becauseOfIMAP(t, s, "alice")
	who := s.Call(t, nil, "who")
	if !strings.Contains(who.Out, fmt.Sprintf("imap session of process %d (Dovecot)", process)) {
		t.Errorf("who: %s", who.Out)
	}
	began = time.Now()
	again := h.Login(t, "alice", users["alice"])
	t.Logf("login while unlocked: %v", time.Since(began))
	again.Do(t, "LOGOUT")
	// A session that is longer than the grace keeps her unlocked.
	held := time.After(grace + 2*time.Second)
	<-held
	if !isUnlocked(t, s, "alice") {
		t.Fatal("locked in the middle of a session")
	}
	c.Do(t, "LOGOUT")
	t.Logf("logout to lock: %v with a grace of %v", waitLocked(t, s, "alice", 30*time.Second), grace)
	if files, _ := filepath.Glob(filepath.Join(s.View, "alice/cur/*")); len(files) != 1 {
		t.Fatalf("messages %q", files)
	} else if _, err := os.ReadFile(files[0]); !errors.Is(err, syscall.EACCES) {
		t.Errorf("reading mail of a locked user: %v", err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("Dovecot did not move the message")
	}

	// The second login unlocks her with her password, and kill -9 ends the session.
	began = time.Now()
	c = h.Login(t, "alice", users["alice"])
	t.Logf("login of an enrolled user: %v", time.Since(began))
	c.Do(t, "SELECT INBOX")
	if text := c.Do(t, "FETCH 1 BODY.PEEK[]"); !strings.Contains(text, "body-one") {
		t.Fatalf("FETCH: %s", text)
	}
	must(t, syscall.Kill(becauseOfIMAP(t, s, "alice"), syscall.SIGKILL))
	t.Logf("kill -9 to lock: %v", waitLocked(t, s, "alice", 30*time.Second))

	// A wrong password unlocks nobody.
	if text, ok := h.Dial(t).TryLogin("alice", "wrong"); ok {
		t.Errorf("a login with a wrong password: %s", text)
	}
	if isUnlocked(t, s, "alice") {
		t.Error("a wrong password unlocked alice")
	}
	passwords(t, s, h, users)
}

// passwords changes the login password behind the daemon's back, and mends that.
func passwords(t *testing.T, s *harness.Site, h *imaphost.Host, users map[string]string) {
	t.Helper()
	old := users["alice"]
	users["alice"] = "new password"
	h.SetPasswords(t, users)
	s.Announce(`PAM request.*op=login user=alice.*wrong secret`)
	c := h.Login(t, "alice", users["alice"]) // the login goes on
	if st := userStatus(t, s, "alice"); st["unlocked"] == true || !strings.Contains(fmt.Sprint(st["problem"]), "mailcryptfs passwd") {
		t.Errorf("status: %v", st)
	}
	c.Do(t, "SELECT INBOX")
	if text, ok := c.Try("FETCH 1 BODY.PEEK[]"); ok {
		t.Errorf("mail of a locked user was read: %s", text)
	}
	c.Close()
	if r := s.Passwd(t, "alice", "not the old one", users["alice"]); r.Code != 77 {
		t.Errorf("passwd with a wrong old password: %d: %s", r.Code, r.Out+r.Err)
	}
	if r := s.Passwd(t, "alice", old, users["alice"]); r.Code != 0 {
		t.Fatalf("passwd: %d: %s", r.Code, r.Out+r.Err)
	}
	c = h.Login(t, "alice", users["alice"])
	if st := userStatus(t, s, "alice"); st["unlocked"] != true || st["problem"] != nil {
		t.Errorf("status: %v", st)
	}
	// In a session: it goes on, and a daemon that is started again finds an entry that opens.
	c.Do(t, "SELECT INBOX")
	if r := s.Passwd(t, "alice", users["alice"], "third"); r.Code != 0 {
		t.Fatalf("passwd: %d: %s", r.Code, r.Out+r.Err)
	}
	if text := c.Do(t, "FETCH 1 BODY.PEEK[]"); !strings.Contains(text, "body-one") {
		t.Fatalf("FETCH: %s", text)
	}
	s.Stop(t)
	s.Serve(t)
	if !isUnlocked(t, s, "alice") {
		t.Error("locked by a restart after a change of password")
	}
	c.Close()
	waitLocked(t, s, "alice", 30*time.Second)
}

// TestPostLogin registers sessions by the script that is shipped, with no access to anvil.
func TestPostLogin(t *testing.T) {
	h := imaphost.Prepare(t)
	s := newSite(t, fmt.Sprintf("grace = %q\nenroll = \"auto\"\nrecovery = \"none\"\n", grace))
	script := filepath.Join(harness.Dir(t), "post-login")
	text, err := os.ReadFile("../../contrib/dovecot/post-login.sh")
	must(t, err)
	text = []byte(strings.ReplaceAll(string(text), "mailcryptfs register", harness.Binary(t)+" register --config "+s.Config))
	must(t, os.WriteFile(script, text, 0o755))
	h.Start(t, s, imaphost.Options{Users: map[string]string{"alice": "pw"}, Module: true, PostLogin: script})
	deliver(t, s, "alice", "1.m.host", "one")
	c := h.Login(t, "alice", "pw")
	c.Do(t, "SELECT INBOX")
	if because := fmt.Sprint(userStatus(t, s, "alice")["because"]); !strings.HasSuffix(because, "(registered)") {
		harness.Eventually(t, time.Minute, "the daemon knows of the process", func() bool {
			return strings.HasSuffix(fmt.Sprint(userStatus(t, s, "alice")["because"]), "(registered)")
		})
	}
	// The process is known after a restart of the daemon as well.
	s.Stop(t)
	s.Serve(t)
	held := time.After(grace + 2*time.Second)
	<-held
	if !isUnlocked(t, s, "alice") {
		t.Fatal("locked in the middle of a session")
	}
	c.Close() // the daemon's restart took the mailbox away from beneath the session
	waitLocked(t, s, "alice", 30*time.Second)
}

func TestRegister(t *testing.T) {
	const grace = 2 * time.Second // there are no logins
	s := newSite(t, fmt.Sprintf("grace = %q\n", grace))
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	// Nothing says who is in use: she stays unlocked.
	held := time.After(2 * grace)
	<-held
	if !isUnlocked(t, s, "alice") {
		t.Fatal("locked although no source of sessions is configured")
	}
	cmd := exec.Command("sleep", "1000")
	must(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill() }()
	if r := s.Call(t, nil, "register", "alice", "--pid", strconv.Itoa(cmd.Process.Pid)); r.Code != 0 {
		t.Fatalf("register: %d %s", r.Code, r.Err)
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	t.Logf("end of the process to lock: %v", waitLocked(t, s, "alice", 30*time.Second))
	if r := s.Call(t, nil, "register", "alice", "--pid", strconv.Itoa(cmd.Process.Pid)); r.Code != 66 {
		t.Errorf("a process that is gone: %d %s", r.Code, r.Err)
	}
}
