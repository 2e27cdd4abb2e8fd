package cyrus

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// TestRepair runs the programs that repair, count, expire and index mailboxes on one that is locked, and on one that is
// not. The locked one must stay as it is, whatever they make of it; afterwards, unlocked, it must be as good as ever.
func TestRepair(t *testing.T) {
	t.Parallel()
	forLayouts(t, testRepair, legacy, uuid)
}

func testRepair(t *testing.T, l layout) {
	users := []string{"locked", "unlocked"}
	s := newSite(t, options{layout: l}, users...)
	bodies := map[string]map[string]string{}
	for _, u := range users {
		s.populate(t, u)
		s.Unlock(t, u)
		bodies[u] = s.bodies(t, u)
	}
	s.Lock(t, "locked")
	s.sealed(t, "locked")
	before := map[string]string{}
	for _, u := range users {
		before[u] = s.snapshot(t, u)
	}
	for _, args := range [][]string{
		{"reconstruct", "-r", "user.@"}, {"reconstruct", "-r", "-G", "user.@"}, {"reconstruct", "-r", "-R", "user.@"},
		{"reconstruct", "-r", "-G", "-R", "-M", "user.@"}, {"quota", "-f", "user.@"},
		{"cyr_expire", "-E", "1", "-X", "0", "-D", "0"}, {"ctl_cyrusdb", "-c"}, {"ctl_mboxlist", "-v"},
	} {
		for _, u := range users {
			var argv []string
			for _, a := range args {
				argv = append(argv, strings.ReplaceAll(a, "@", u))
			}
			what := strings.Join(argv, " ")
			if out, ok := s.tool(t, argv...); !ok {
				t.Errorf("%s: %s", what, out)
			}
			client.Same(t, what, before[u], s.snapshot(t, u))
		}
	}
	s.refused(t, "locked")
	s.Unlock(t, "locked")
	for _, u := range users {
		if out, ok := s.tool(t, "reconstruct", "-r", "-G", "-R", "user."+u); !ok {
			t.Errorf("reconstruct: %s", out)
		}
		client.Same(t, u+" at the end", before[u], s.snapshot(t, u))
		if now := s.bodies(t, u); !maps.Equal(bodies[u], now) {
			t.Errorf("other bodies of %s: %d messages, before %d", u, len(now), len(bodies[u]))
		}
	}
	s.judgeLog(t, nil)
	s.lostIndex(t)
}

// lostIndex takes the cache of a mailbox away, and then its index, while its user is locked, and has it repaired: no file
// of a message may be lost by that, and when the user is unlocked all messages come back.
func (s *site) lostIndex(t *testing.T) {
	t.Helper()
	const user = "locked"
	want := s.bodies(t, user)
	texts := map[string]int{}
	for _, text := range want {
		texts[text]++
	}
	files := len(s.messages(t, user))
	for _, name := range []string{"cyrus.cache", "cyrus.index"} {
		s.Lock(t, user)
		s.sealed(t, user)
		dir := s.inbox(t, user)
		must(t, os.Remove(filepath.Join(dir, name)))
		out, ok := s.tool(t, "reconstruct", "-r", "user."+user)
		t.Logf("reconstruct of a locked mailbox without %s: %v %s", name, ok, out)
		if n := len(s.messages(t, user)); n != files {
			t.Errorf("reconstruct of a locked mailbox without %s: %d files of messages, before %d", name, n, files)
		}
		s.Unlock(t, user)
		if out, ok := s.tool(t, "reconstruct", "-r", "-G", "user."+user); !ok {
			t.Errorf("reconstruct: %s", out)
		}
		now := map[string]int{}
		for _, text := range s.bodies(t, user) {
			now[text]++
		}
		if !maps.Equal(texts, now) {
			t.Errorf("after the loss of %s: %d different messages, want %d", name, len(now), len(texts))
		}
	}
}

// inbox is the directory of a user's mailbox.
func (h *host) inbox(t testing.TB, user string) string {
	t.Helper()
	out, ok := h.tool(t, "mbpath", "user."+user)
	if !ok {
		t.Fatalf("mbpath: %s", out)
	}
	return h.path(strings.TrimSpace(out))
}

// TestSquatter builds search indexes: of an unlocked user one that serves, under that user's key; a locked user stays as
// it is.
func TestSquatter(t *testing.T) {
	t.Parallel()
	s := newSite(t, options{layout: legacy}, "locked", "unlocked")
	text, err := os.ReadFile(s.path("/etc/imapd.conf"))
	must(t, err)
	s.write(t, "/etc/imapd.conf", strings.Replace(string(text), "search_engine: none", "search_engine: squat", 1))
	s.Unlock(t, "unlocked")
	for i := range 3 {
		s.deliver(t, client.Message(fmt.Sprintf("plain %d", i), 5), "locked", "unlocked")
	}
	s.sealed(t, "locked")
	before := s.snapshot(t, "locked")
	out, ok := s.tool(t, "squatter", "-r", "user.unlocked")
	if !ok {
		t.Errorf("squatter: %s", out)
	}
	out, ok = s.tool(t, "squatter", "-r", "user.locked")
	t.Logf("squatter of a locked user: %v %s", ok, out)
	out, ok = s.tool(t, "squatter")
	t.Logf("squatter of all users: %v %s", ok, out)
	client.Same(t, "squatter", before, s.snapshot(t, "locked"))
	index := filepath.Join(s.inbox(t, "unlocked"), "cyrus.squat")
	if _, err := os.ReadFile(index); err != nil {
		t.Fatal(err)
	}
	c := s.enter(t, "unlocked")
	c.OK(t, "SELECT INBOX")
	if found := c.OK(t, `SEARCH BODY "text of plain 1"`); found[0] != "* SEARCH 2" {
		t.Errorf("SEARCH: %q", found)
	}
	c.Close()
	s.Lock(t, "unlocked")
	s.sealed(t, "unlocked")
	if b, err := os.ReadFile(index); err == nil {
		t.Errorf("the search index of a locked user was read: %d bytes", len(b))
	}
	s.refused(t, "unlocked")
	s.Unlock(t, "locked")
	if out, ok := s.tool(t, "squatter", "-r", "user.locked"); !ok {
		t.Errorf("squatter: %s", out)
	}
	if found := harness.FindClear(t, []string{"text of plain", "plain 1"}, s.Store); len(found) > 0 {
		t.Errorf("in the clear: %q", found)
	}
	s.judgeLog(t, nil)
}
