package supervise

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// TestUnit: the unit restarts the daemon whatever ends it, and has a watchdog.
func TestUnit(t *testing.T) {
	b, err := os.ReadFile("../../contrib/systemd/mailcryptfs.service")
	must(t, err)
	for _, line := range []string{"Type=notify", "Restart=always", "WatchdogSec=", "StartLimitIntervalSec=0", "LimitCORE=0"} {
		if !regexp.MustCompile(`(?m)^` + line).Match(b) {
			t.Errorf("the unit has no line %s", line)
		}
	}
}

// TestWatchdog stops a daemon that serves: the watchdog is not fed any more, what systemd then sends ends the daemon with a
// word about where it was, and after the restart everything is there again.
func TestWatchdog(t *testing.T) {
	const limit = 6 * time.Second // a third of it is what a view may take to answer
	m, under := manage(t, limit)
	s := harness.New(t, harness.Options{Under: under})
	go m.listen(s)
	s.Serve(t)
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	path, content := deliver(t, s, "alice", "1")
	harness.Eventually(t, time.Minute, "the watchdog is fed", func() bool { n, _ := m.heard(); return n >= 3 })
	if n, last := m.heard(); time.Since(last) > limit {
		t.Fatalf("%d times, the last one %v ago", n, time.Since(last))
	}

	must(t, syscall.Kill(s.PID(), syscall.SIGSTOP))
	_, stopped := m.heard()
	harness.Eventually(t, time.Minute, "the watchdog is not fed", func() bool { _, last := m.heard(); return time.Since(last) > limit })
	if _, last := m.heard(); last.After(stopped.Add(limit)) {
		t.Error("a stopped daemon feeds the watchdog")
	}
	noticed := time.Now()
	must(t, syscall.Kill(s.PID(), syscall.SIGABRT)) // as systemd does, which then wakes it
	must(t, syscall.Kill(s.PID(), syscall.SIGCONT))
	harness.Eventually(t, time.Minute, "the daemon has ended", func() bool { return !s.Running() })
	s.WaitLog(t, `SIGABRT`)
	s.Announce("detached a view that a dead daemon had left")
	s.Serve(t)
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
		t.Errorf("after the restart: %v", err)
	}
	t.Logf("noticed after %v, back %v later", noticed.Sub(stopped), time.Since(noticed))
}

// TestHungView: while the view does not answer, the watchdog is not fed although the daemon runs. What keeps the view from
// answering is a store that does not: its filesystem is a FUSE filesystem whose daemon is stopped.
func TestHungView(t *testing.T) {
	const limit = 3 * time.Second
	lower := harness.Start(t, harness.Options{}) // any filesystem that can be made to hang
	m, under := manage(t, limit)
	s := harness.New(t, harness.Options{Under: under})
	must(t, unix.Mount(lower.View, s.Store, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(s.Store, unix.MNT_DETACH) })
	harness.Run(t, harness.Binary(t), "setup", "--config", s.Config)
	go m.listen(s)
	s.Serve(t)
	harness.Eventually(t, time.Minute, "the watchdog is fed", func() bool { n, _ := m.heard(); return n >= 2 })
	must(t, syscall.Kill(lower.PID(), syscall.SIGSTOP))
	harness.Eventually(t, time.Minute, "the watchdog is not fed", func() bool { _, last := m.heard(); return time.Since(last) > 2*limit })
	if !s.Running() {
		t.Error("the daemon ended")
	}
	must(t, syscall.Kill(lower.PID(), syscall.SIGCONT))
	s.WaitLog(t, "the view does not answer")
	_, before := m.heard()
	harness.Eventually(t, time.Minute, "the watchdog is fed again", func() bool { _, last := m.heard(); return last.After(before) })
	s.Stop(t)
}

// TestCrashes kills the daemon again and again, and starts it again as the unit does. A program with the rights of a mail server
// sees the mail, an error of the request that was being served, a dead mount until the restart, or the guarded mount point: never an empty place, which would be "expunged".
// No read fails that does not meet the time between a kill and the daemon's word that it is ready.
func TestCrashes(t *testing.T) {
	const restart = 100 * time.Millisecond // RestartSec
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	path, content := deliver(t, s, "alice", "1")
	must(t, os.Chmod(s.View, 0o755))
	p := harness.SpawnAs(t, harness.IDs{UID: vmail, GID: vmail}, "probe", path)
	if line := p.Line(t); !strings.HasSuffix(line, " ok") {
		t.Fatal(line)
	}
	seen := map[string]int{}
	var longest time.Duration
	for range 8 {
		killed := monotonic()
		s.Kill(t)
		time.Sleep(restart)
		s.Serve(t)
		served := monotonic()
		longest = max(longest, time.Duration(served-killed))
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
			t.Fatalf("after a restart: %v", err)
		}
		p.Tell(t, "look") // each outage is one of its own
		for back := false; !back; {
			r := probed(t, p.Line(t))
			seen[r.answer]++
			back = r.answer == "ok" && r.began > served
			if r.answer != "ok" && (r.ended < killed || r.began > served) {
				t.Fatalf("%s while there was a daemon: read %v after it was ready, killed %v after the read",
					r.answer, time.Duration(r.began-served), time.Duration(killed-r.ended))
			}
		}
	}
	p.Tell(t, "enough")
	for line := p.Line(t); line != "done"; line = p.Line(t) {
		if r := probed(t, line); r.answer != "ok" {
			t.Fatalf("%s after the last restart", r.answer)
		}
	}
	t.Logf("answers %v; longest restart %v", seen, longest)
	for _, answer := range slices.Collect(maps.Keys(seen)) {
		if !slices.Contains([]string{"ok", "ENOTCONN", "ECONNABORTED", "EIO", "EACCES"}, answer) {
			t.Errorf("a mail server got %s", answer)
		}
	}
}

// reading is what the probe says of one read.
type reading struct {
	began, ended int64
	answer       string
}

func probed(t testing.TB, line string) (r reading) {
	t.Helper()
	if _, err := fmt.Sscan(line, &r.began, &r.ended, &r.answer); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return r
}

// TestLogLines: each failure leaves a line that says whose and what, at a level that people look at.
func TestLogLines(t *testing.T) {
	s := harness.Start(t, harness.Options{Profile: "dovecot-maildir"})
	s.Enroll(t, "alice", "bob")
	s.Unlock(t, "alice")
	path, _ := deliver(t, s, "alice", "1")
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	pam := filepath.Join(filepath.Dir(s.Control), "pam.sock")
	one := func(line string) {
		t.Helper()
		if found := s.WaitLog(t, line); len(found) != 1 {
			t.Errorf("%d lines match %s: %q", len(found), line, found)
		}
	}
	must(t, os.WriteFile(s.Keyring+"/bob", []byte("rubbish\n"), 0o600))
	one(`level=WARN msg="user cannot be served as usual" user=bob error="\S+/keyring/bob: not a keyring entry"`)
	must(t, os.Remove(s.Keyring+"/bob"))

	must(t, os.Chmod(pam, 0o777)) // so that the mode is not what keeps others out
	harness.SpawnAs(t, harness.IDs{UID: vmail, GID: vmail}, "connect", pam).Line(t)
	one(`level=WARN msg="PAM request refused: the peer is not root" uid=8`)

	s.Stop(t)
	stored := ""
	must(t, filepath.WalkDir(s.Store, func(p string, _ os.DirEntry, err error) error {
		var low unix.Stat_t
		if err == nil && unix.Lstat(p, &low) == nil && low.Ino == st.Ino {
			stored = p
		}
		return err
	}))
	b, err := os.ReadFile(stored)
	must(t, err)
	b[len(b)/2] ^= 1
	must(t, os.WriteFile(stored, b, 0o600))
	record := s.Store + "/.mailcryptfs/users/bob/record.toml"
	must(t, os.WriteFile(record, []byte("rubbish\n"), 0o600))
	s.Serve(t)
	for range 3 {
		_, _ = os.ReadFile(path)
	}
	one(`level=ERROR msg="stored file cannot be read: restore it from a backup, or remove it" view=alice/cur/1 store=\S+` + regexp.QuoteMeta(filepath.Base(stored)))
	if r := s.Call(t, harness.Password("bob"), "unlock", "bob"); r.Code == 0 {
		t.Error("a damaged record opened")
	}
	s.Announce(`user=bob`)

	s.Kill(t)
	s.Serve(t)
	one(`level=WARN msg="detached a view that a dead daemon had left"`)

	must(t, unix.Unmount(s.View, unix.MNT_DETACH))
	harness.Eventually(t, time.Minute, "the daemon ends", func() bool { return !s.Running() })
	if !s.LogHas("was unmounted from outside") {
		t.Error("the log does not say why the daemon ended")
	}
	s.Serve(t)
}
