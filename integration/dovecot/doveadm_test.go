package dovecot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// doveadm runs an administrator's command, and returns what it said and whether it ended well.
func (h *host) doveadm(t testing.TB, args ...string) (string, bool) {
	t.Helper()
	out, err := h.m.Command(append([]string{"doveadm"}, args...)...).CombinedOutput()
	return string(out), err == nil
}

// TestDoveadm runs the commands that repair, purge and copy mailboxes on one that is locked: it must stay as it is, and so
// must a backup that was made of it before.
func TestDoveadm(t *testing.T) {
	t.Parallel()
	const user = "alice"
	_, h := newSite(t, options{users: []string{user}})
	h.populate(t, user)
	h.unlock(t, user)
	backup := filepath.Join(harness.Dir(t), "backup")
	target := "maildir:" + backup
	must(t, os.Mkdir(backup, 0o700))
	must(t, os.Chown(backup, mailUID, mailUID))
	if out, ok := h.doveadm(t, "backup", "-u", user, target); !ok {
		t.Fatalf("backup: %s", out)
	}
	want := h.bodies(t, user)
	if n := len(messages(t, backup)); n != len(want) {
		t.Fatalf("%d messages in the backup, want %d", n, len(want))
	}
	before := h.snapshot(t, user)
	h.lock(t, user)
	h.sealed(t, user)
	for _, args := range [][]string{{"force-resync", "-u", user, "*"}, {"purge", "-u", user}, {"index", "-u", user, "*"}, {"quota", "recalc", "-u", user}} {
		out, ok := h.doveadm(t, args...)
		if !ok && !strings.Contains(out, "Permission denied") {
			t.Errorf("%q of a locked user: %s", args, out)
		}
		client.Same(t, strings.Join(args, " "), before, h.snapshot(t, user))
	}
	h.deliver(t, client.Message("after the backup", 3), user)
	before = h.snapshot(t, user)
	h.sealed(t, user)
	for _, verb := range []string{"backup", "sync"} {
		if out, ok := h.doveadm(t, verb, "-u", user, target); ok {
			t.Errorf("%s of a locked user: %s", verb, out)
		}
		client.Same(t, verb, before, h.snapshot(t, user))
	}
	if n := len(messages(t, backup)); n < len(want) {
		t.Errorf("%d messages in the backup after one of the locked user, want %d", n, len(want))
	}
	client.Same(t, "backup", before, h.snapshot(t, user))
	h.unlock(t, user)
	if out, ok := h.doveadm(t, "backup", "-u", user, target); !ok {
		t.Errorf("backup: %s", out)
	}
	if n := len(messages(t, backup)); n != len(want)+1 {
		t.Errorf("%d messages in the backup at the end, want %d", n, len(want)+1)
	}
	client.Same(t, "backup", before, h.snapshot(t, user))
	h.judgeLog(t, nil)
}

// TestCacheOfSite has header texts readable for the server while the user is locked: then it has nothing to complain of.
func TestCacheOfSite(t *testing.T) {
	t.Parallel()
	_, h := newSite(t, options{users: []string{"alice"}, config: "meta = [\"dovecot.index.cache\"]\n"})
	h.deliver(t, client.Message("one", 3), "alice")
	h.sealed(t, "alice")
	h.deliver(t, client.Message("two", 3), "alice")
	h.login(t, "alice").OK(t, "SELECT INBOX")
	if strings.Contains(h.log(t), "denied") {
		t.Errorf("refused, though no message was asked for:\n%s", h.log(t))
	}
}
