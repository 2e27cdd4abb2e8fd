package memory

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"github.com/mailcryptfs/mailcryptfs/pam/wire"
)

func count(found map[string]Hits, f func(Hits) int) (n int) {
	for _, h := range found {
		n += f(h)
	}
	return n
}

// TestMemoryAfterLock looks for the secrets of a user in the daemon's memory: they are there while the user is unlocked (or
// the search would find nothing at all), keys of content in locked pages alone, and nothing of them is left after the lock.
func TestMemoryAfterLock(t *testing.T) {
	harness.AsShipped(t)
	s := harness.New(t, harness.Options{Profile: "dovecot-maildir", Epoch: "4s"}) // what is written is read within half of it
	addLines(t, s, "enroll = \"auto\"\nrecovery = \"none\"\n")
	s.Serve(t)
	const user = "alice" // enrolled by the first login
	first, second := []byte("a password that is nowhere else 8305719"), []byte("and the one that follows it 55012377")
	socket := filepath.Join(filepath.Dir(s.Control), "pam.sock")
	ask := func(r wire.Request) {
		t.Helper()
		if a, err := wire.Ask(t.Context(), socket, r); err != nil || a.Status != wire.OK {
			t.Fatalf("%v %v", a, err)
		}
	}
	login := func(password []byte) {
		t.Helper()
		ask(wire.Request{Kind: wire.Login, User: user, Service: "imap", Password: bytes.Clone(password)})
	}
	box := ""
	use := func(unlocked bool) {
		t.Helper()
		path := filepath.Join(box, "new", fmt.Sprint(time.Now().UnixNano()))
		must(t, os.WriteFile(path, bytes.Repeat([]byte("text\n"), 20000), 0o600))
		_, err := os.ReadFile(path)
		must(t, err)
		if !unlocked {
			return
		}
		f, err := os.OpenFile(filepath.Join(box, "dovecot.index.cache"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		must(t, err)
		_, err = f.WriteString("cache")
		must(t, errors.Join(err, f.Close()))
	}
	password := first
	for i, come := range []func(){
		func() { login(first) }, // enrols
		func() { login(first) },
		func() {
			login(first)
			ask(wire.Request{Kind: wire.Change, User: user, Old: bytes.Clone(first), Password: bytes.Clone(second)})
			password = second
		},
		func() { must(t, callOK(s.Call(t, second, "unlock", user))) },
		func() {
			login(second)
			must(t, callOK(s.Call(t, nil, "rotate", user, "--identity", "--wait")))
		},
	} {
		come()
		if box == "" {
			box = harness.Maildir(t, 0, s.View, user)
		}
		use(true)
		needles := SecretsOf(t, s, user, first, password)
		found := Find(t, s.PID(), needles)
		t.Logf("%d, unlocked: %v", i, found)
		for _, what := range []string{"identity key", "content key"} {
			if found[what].Locked == 0 {
				t.Errorf("%d: the search does not even find the %s, which is in use", i, what)
			}
			if found[what].Loose > 0 {
				t.Errorf("%d: the %s is in memory that may be swapped or dumped", i, what)
			}
		}
		must(t, callOK(s.Call(t, nil, "lock", user)))
		found = Find(t, s.PID(), needles)
		t.Logf("%d, locked: %v", i, found)
		for _, what := range []string{"identity key", "content key", "delivery key"} {
			if found[what] != (Hits{}) {
				t.Errorf("%d: the %s is in the daemon's memory after the lock: %+v", i, what, found[what])
			}
		}
		// What leads to the keys, as soon as the collector has run.
		harness.Eventually(t, time.Minute, "everything that leads to the keys is erased", func() bool {
			found = Find(t, s.PID(), needles)
			return count(found, func(h Hits) int { return h.Locked + h.Loose }) == 0
		})
		use(false) // under a delivery key, which ends with its epoch
		harness.Eventually(t, time.Minute, "the delivery key is gone", func() bool {
			return s.Status(t, "--user", user)["delivery_key_until"] == nil
		})
	}
	login(password)
	needles := SecretsOf(t, s, user, first, password)
	must(t, callOK(s.Call(t, nil, "lock", user)))
	harness.Eventually(t, time.Minute, "everything is erased", func() bool {
		return count(Find(t, s.PID(), needles), func(h Hits) int { return h.Locked + h.Loose }) == 0
	})
	t.Logf("searched for %d secrets, delivery keys among them", len(needles))
	noSecrets(t, s, needles, readAll(t, filepath.Join(filepath.Dir(s.Config), "log")))
}

func callOK(r harness.Result) error {
	if r.Code != 0 {
		return fmt.Errorf("exit %d: %s%s", r.Code, r.Out, r.Err)
	}
	return nil
}

func readAll(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}

// noSecrets fails the test if a text has a secret in it, as it is or in hex.
func noSecrets(t testing.TB, s *harness.Site, needles []Secret, text string) {
	t.Helper()
	for _, n := range needles {
		if strings.Contains(text, string(n.Bytes)) || strings.Contains(strings.ToLower(text), hex.EncodeToString(n.Bytes)) {
			t.Errorf("the %s is in a text that anybody may read", n.What)
		}
	}
}

// TestDaemonProcess: no core file, no secret in what the kernel shows of the process, locked pages, and a dump of all its
// goroutines tells nothing either.
func TestDaemonProcess(t *testing.T) {
	harness.AsShipped(t)
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	needles := SecretsOf(t, s, "alice", harness.Password("alice"))
	raw, err := hex.DecodeString(strings.TrimSpace(strings.TrimPrefix(readAll(t, s.Secret), "mailcryptfs-site-secret-1:")))
	must(t, err)
	needles = append(needles, Secret{"site secret", raw})
	if found := Find(t, s.PID(), needles); found["site secret"].Loose > 0 {
		t.Errorf("the site secret is in memory that may be swapped or dumped: %+v", found["site secret"])
	}
	proc := fmt.Sprintf("/proc/%d/", s.PID())
	for line := range strings.Lines(readAll(t, proc+"limits")) {
		if f := strings.Fields(line); strings.HasPrefix(line, "Max core file size") && (f[4] != "0" || f[5] != "0") {
			t.Error(line)
		}
	}
	for line := range strings.Lines(readAll(t, proc+"status")) {
		if f := strings.Fields(line); f[0] == "VmLck:" && f[1] == "0" {
			t.Error("no memory is locked")
		}
	}
	noSecrets(t, s, needles, readAll(t, proc+"cmdline")+readAll(t, proc+"environ"))
	// What systemd sends to a daemon that hangs.
	s.Announce("detached a view that a dead daemon had left")
	must(t, syscall.Kill(s.PID(), syscall.SIGABRT))
	harness.Eventually(t, time.Minute, "the daemon has ended", func() bool { return !s.Running() })
	text := readAll(t, filepath.Join(filepath.Dir(s.Config), "log"))
	if !strings.Contains(text, "goroutine ") {
		t.Error("the daemon did not say where it was")
	}
	noSecrets(t, s, needles, text)
	s.Serve(t)
}
