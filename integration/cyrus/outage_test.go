package cyrus

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// TestStage kills deliveries in the middle: what they leave in stage. is not readable after a restart of the daemon, by
// any key, and is gone.
func TestStage(t *testing.T) {
	t.Parallel()
	for _, kill := range []string{"lmtpd and daemon", "daemon first"} {
		t.Run(kill, func(t *testing.T) {
			t.Parallel()
			users := []string{"locked", "unlocked"}
			s := newSite(t, options{layout: legacy}, users...)
			s.Unlock(t, "unlocked")
			s.deliver(t, client.Message("before", 5), users...)
			x := s.begin(t, users...)
			x.Write(t, strings.Repeat(client.Message("half delivered", 200), 20))
			var left []string
			harness.Eventually(t, patience, "lmtpd writes to stage.", func() bool {
				left, _ = filepath.Glob(s.path(mail + "/stage./*"))
				return len(left) == 1 && size(left[0]) > 64<<10
			})
			pids := s.processes(t, "lmtpd")
			if len(pids) == 0 {
				t.Fatal("no lmtpd")
			}
			end := func() {
				for _, pid := range pids {
					must(t, syscall.Kill(pid, syscall.SIGKILL))
				}
				x.Hangup()
			}
			if kill == "daemon first" {
				s.Kill(t)
				end()
			} else {
				end()
				if b, err := os.ReadFile(left[0]); err != nil || !strings.Contains(string(b), "half delivered") {
					t.Errorf("before the restart: %d bytes, %v", len(b), err)
				}
				s.Kill(t)
			}
			if found := harness.FindClear(t, []string{"half delivered", "half-delivered"}, s.Store); len(found) > 0 {
				t.Errorf("in the clear: %q", found)
			}
			s.Serve(t)
			if now, err := filepath.Glob(s.path(mail + "/stage./*")); err != nil || len(now) > 0 {
				t.Errorf("after the restart: %q %v", now, err)
			}
			s.deliver(t, client.Message("after", 5), users...)
			for _, u := range users {
				if n := len(s.messages(t, u)); n != 2 {
					t.Errorf("%s has %d messages, want 2", u, n)
				}
			}
			s.noStage(t)
			if r := s.Call(t, nil, "verify"); r.Code != 0 {
				t.Errorf("verify: exit %d: %s%s", r.Code, r.Out, r.Err)
			}
		})
	}
}

func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// TestOutage kills the daemon under open sessions and takes its dead mount away: mail is deferred, nothing is stored in
// the clear, and when the daemon is back all goes on with the same Cyrus.
func TestOutage(t *testing.T) {
	t.Parallel()
	forLayouts(t, testOutage, legacy, uuid)
}

func testOutage(t *testing.T, l layout) {
	users := []string{"alice", "bob"}
	s := newSite(t, options{layout: l}, users...)
	s.script(t, users...)
	s.Unlock(t, "alice")
	s.deliver(t, client.Message("plain before", 5), users...)
	reading := s.enter(t, "alice")
	reading.OK(t, "SELECT INBOX")
	idle := s.enter(t, "bob")
	idle.OK(t, "SELECT INBOX")
	idle.Idle(t)
	var before []string
	for _, u := range users {
		before = append(before, s.snapshot(t, u))
	}
	half := s.begin(t, users...)
	deferred := func(when string, x *client.Transaction) {
		t.Helper()
		for i, a := range x.Data(t, client.Message("plain while away", 5)) {
			if !strings.HasPrefix(a, "4") && !strings.HasPrefix(a, client.Gone) {
				t.Errorf("%s: delivery to %s: %s, want 4xx", when, users[i], a)
			}
		}
	}
	s.Kill(t)
	deferred("the daemon died in the middle", half)
	deferred("the daemon is dead", s.begin(t, users...))
	answer, _ := reading.Do("FETCH 1 BODY.PEEK[]")
	t.Logf("an open session while the daemon is dead: %.200q", answer)
	must(t, unix.Unmount(s.View, unix.MNT_DETACH))
	for i := range 3 { // other processes may be at work by then
		deferred(fmt.Sprintf("the view is not mounted, %d", i), s.begin(t, users...))
	}
	for _, command := range []string{"SELECT INBOX", "CREATE INBOX.New", "STATUS INBOX (MESSAGES)"} {
		c := s.connect(t)
		if _, ok := c.LoginAs(users[0], admin, adminPassword); !ok {
			continue // no session at all is fine
		}
		if answer, ok := c.Try("%s", command); ok {
			t.Errorf("the view is not mounted: %s: %q", command, answer)
		}
		c.Close()
	}
	root := s.admin(t)
	if answer, ok := root.Try("CREATE user.carol"); ok {
		t.Errorf("the view is not mounted: CREATE: %q", answer)
	}
	root.Close()
	if entries, err := os.ReadDir(s.View); err != nil || len(entries) > 0 {
		t.Errorf("beneath the mount point: %v %v", entries, err)
	}
	s.Serve(t)
	for i, u := range users {
		client.Same(t, u+" after the restart", before[i], s.snapshot(t, u))
	}
	s.deliver(t, client.Message("plain after", 5), users...)
	s.Unlock(t, "bob")
	for _, u := range users {
		if n := len(s.bodies(t, u)); n != 2 {
			t.Errorf("%s has %d messages, want 2", u, n)
		}
	}
	s.noStage(t)
	if found := harness.FindClear(t, []string{"text of plain"}, s.Store, s.path("/var"), s.path("/tmp"), s.path("/dev/shm")); len(found) > 0 {
		t.Errorf("in the clear: %q", found)
	}
	if out, ok := s.tool(t, "reconstruct", "-r", "-n", "-G", "user.alice", "user.bob"); !ok || strings.Contains(out, "mismatch") || strings.Contains(out, "missing") {
		t.Errorf("reconstruct: %s", out)
	}
}
