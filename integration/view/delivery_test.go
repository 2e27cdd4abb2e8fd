package view

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// agent is a maildir delivery agent of Debian.
type agent struct {
	name string
	args func(t *testing.T, box string) []string
}

func agents() []agent {
	config := func(t *testing.T, text string) string {
		t.Helper()
		path := filepath.Join(harness.Dir(t), "rc")
		must(t, os.WriteFile(path, []byte(text), 0o600))
		must(t, os.Chown(path, vmail, vmail))
		return path
	}
	return []agent{
		{"maildrop", func(t *testing.T, box string) []string { t.Helper(); return []string{config(t, "to \""+box+"/\"\n")} }},
		{"procmail", func(t *testing.T, box string) []string {
			t.Helper()
			return []string{"DEFAULT=" + box + "/", config(t, ":0\n"+box+"/\n")}
		}},
	}
}

// run delivers one message as uid vmail and returns the new file's path.
func (a agent) run(t *testing.T, box string, mail []byte) string {
	t.Helper()
	path, err := exec.LookPath(a.name)
	if err != nil {
		t.Fatalf("%v: run integration/view/install.sh", err)
	}
	before := names(t, box+"/new")
	cmd := exec.Command(path, a.args(t, box)...)
	cmd.Dir, cmd.Env = box, []string{"HOME=" + box, "PATH=" + os.Getenv("PATH"), "LOGNAME=vmail", "SHELL=/bin/sh"}
	cmd.Stdin = bytes.NewReader(mail)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: vmail, Gid: vmail}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", a.name, err, out)
	}
	for _, n := range names(t, box+"/new") {
		if !strings.Contains(strings.Join(before, "\n"), n) {
			return box + "/new/" + n
		}
	}
	t.Fatalf("%s says that it has delivered, but there is no new message", a.name)
	return ""
}

// TestDelivery is the main job: mail arrives for a locked user, its deliverer can read it for a while, then nobody can, and
// the user can after unlocking.
func TestDelivery(t *testing.T) {
	for _, a := range agents() {
		t.Run(a.name, func(t *testing.T) {
			s := harness.Start(t, harness.Options{Epoch: "6s"})
			s.Enroll(t, "alice")
			box := harness.Maildir(t, vmail, s.View, "alice")
			path := a.run(t, box, message("delivered", 20000))
			got, err := os.ReadFile(path) // within the epoch
			must(t, err)
			if !bytes.Contains(got, []byte("body-delivered")) {
				t.Fatalf("%q... was delivered", got[:200])
			}
			size := stat(t, path).Size
			closes(t, 30*time.Second, path, got)
			if stat(t, path).Size != size || size != int64(len(got)) {
				t.Errorf("size %d before, %d after the epoch, %d bytes", size, stat(t, path).Size, len(got))
			}
			// The next epoch opens nothing of the one before.
			second := a.run(t, box, message("second", 1000))
			if _, err := os.ReadFile(second); err != nil {
				t.Error(err)
			}
			refused(t, path)
			noClear(t, s, "body-delivered", "subject-delivered", "body-second", filepath.Base(path))
			s.Unlock(t, "alice")
			readable(t, path, got)
			if b, err := os.ReadFile(second); err != nil || !bytes.Contains(b, []byte("body-second")) {
				t.Errorf("the second message: %v", err)
			}
			third := a.run(t, box, message("third", 1000))
			s.Lock(t, "alice")
			refused(t, third) // went under the user's own key
			noClear(t, s, "body-delivered", "body-second", "body-third", filepath.Base(third))
		})
	}
}

// TestSealedAgainstDaemon: a daemon that is started anew while the user is locked cannot read what its predecessor sealed,
// however that ended, although the epoch has not ended.
func TestSealedAgainstDaemon(t *testing.T) {
	s := harness.Start(t, harness.Options{Epoch: "1h"})
	s.Enroll(t, "alice")
	box := harness.Maildir(t, vmail, s.View, "alice")
	want := map[string][]byte{}
	for i, end := range []func(testing.TB){s.Stop, s.Kill} {
		content := message(fmt.Sprint("sealed", i), 9000)
		path := deliver(t, box, fmt.Sprint("m", i), content)
		readable(t, path, content)
		want[path] = content
		end(t)
		s.Serve(t)
		for path := range want {
			refused(t, path)
		}
	}
	s.Unlock(t, "alice")
	for path, content := range want {
		readable(t, path, content)
	}
	s.Stop(t)
	s.Serve(t)
	for path, content := range want { // still unlocked: the entry is in the keyring directory
		readable(t, path, content)
	}
	s.Lock(t, "alice")
	for path := range want {
		refused(t, path)
	}
}

// TestDeliveryModes: what each setting means for the reader while the user is locked, and for the store.
func TestDeliveryModes(t *testing.T) {
	for _, c := range []struct {
		delivery, unenrolled string
		user                 string
		enrolled, unlocked   bool
		opens, clear         bool // after a restart of the daemon
	}{
		{"sealed", "site", "alice", true, false, false, false},
		{"site", "site", "alice", true, false, true, false},
		{"plaintext", "site", "alice", true, false, true, true},
		{"plaintext", "site", "alice", true, true, true, false},
		{"sealed", "site", "nobody", false, false, true, false},
		{"sealed", "plaintext", "nobody", false, false, true, true},
		{"sealed", "plaintext", "alice", true, false, false, false},
	} {
		t.Run(fmt.Sprintf("%s-%s-%s-%v", c.delivery, c.unenrolled, c.user, c.unlocked), func(t *testing.T) {
			s := harness.Start(t, harness.Options{Delivery: c.delivery, Unenrolled: c.unenrolled})
			if c.enrolled {
				s.Enroll(t, c.user)
			}
			if c.unlocked {
				s.Unlock(t, c.user)
			}
			box := harness.Maildir(t, vmail, s.View, c.user)
			content := message("mode", 9000)
			path := deliver(t, box, "name-in-question", content)
			must(t, os.WriteFile(box+"/dovecot-uidlist", []byte("3 V1 meta-in-question\n"), 0o600))
			readable(t, path, content)
			s.Stop(t)
			s.Serve(t)
			if c.opens {
				readable(t, path, content)
			} else {
				refused(t, path)
			}
			if size := stat(t, path).Size; size != int64(len(content)) {
				t.Errorf("size %d, want %d", size, len(content))
			}
			found := harness.FindClear(t, []string{"body-mode"}, s.Store)
			if (len(found) != 0) != c.clear {
				t.Errorf("in clear: %q", found)
			}
			if !c.clear {
				noClear(t, s, "body-mode", "subject-mode", "name-in-question", "meta-in-question")
			}
			if c.enrolled {
				s.Unlock(t, c.user)
				readable(t, path, content)
			}
		})
	}
}
