package cyrus

import (
	"maps"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// TestDomains logs users of several domains in, some of the same name and some with dots in it: each login unlocks its own
// user alone.
func TestDomains(t *testing.T) {
	t.Parallel()
	users := []string{"alice@example.org", "alice@example.net", "johannes.blacksmith@example.org", "alice"}
	s := newSite(t, options{layout: domain, grace: grace}, users...)
	for _, u := range users {
		s.deliver(t, client.Message("plain for "+u, 20), u)
	}
	for _, u := range users {
		s.sealed(t, u)
	}
	for _, u := range users {
		c := s.login(t, u)
		c.OK(t, "SELECT INBOX")
		if text := strings.Join(c.OK(t, "FETCH 1 BODY.PEEK[TEXT]"), ""); !strings.Contains(text, "text of plain for "+u) {
			t.Errorf("FETCH of %s: %q", u, text)
		}
		for _, other := range users {
			if s.unlocked(t, other) != (other == u) {
				t.Errorf("%s is unlocked by the login of %s: %v", other, u, other != u)
			}
		}
		c.OK(t, "LOGOUT")
		s.waitLocked(t, u)
	}
	if found := harness.FindClear(t, []string{"text of plain", "example.net", "johannes", "blacksmith"}, s.Store); !onlyKeys(found) {
		t.Errorf("in the clear: %q", found)
	}
	if r := s.Call(t, nil, "verify"); r.Code != 0 {
		t.Errorf("verify: exit %d: %s%s", r.Code, r.Out, r.Err)
	}
	s.judgeLog(t, nil)
}

// onlyKeys says whether everything was found in the directory of key records, which has the names of users.
func onlyKeys(found []string) bool {
	for _, f := range found {
		if !strings.Contains(f, "/.mailcryptfs/") {
			return false
		}
	}
	return true
}

// TestPartitions has two partitions in one view, and moves a locked user from one to the other.
func TestPartitions(t *testing.T) {
	t.Parallel()
	const user = "alice"
	s := newSite(t, options{layout: two, user: "*/%u"}, user)
	s.populate(t, user)
	s.Unlock(t, user)
	bodies := s.bodies(t, user)
	s.Lock(t, user)
	s.sealed(t, user)
	before := modseq.ReplaceAllString(s.snapshot(t, user), "*")
	root := s.admin(t)
	for _, partition := range []string{"second", "default"} {
		root.OK(t, "RENAME user.alice user.alice %s", partition)
		if dir := s.inbox(t, user); !strings.HasPrefix(dir, s.path(mail+"/"+partition)) {
			t.Errorf("the mailbox is in %s", dir)
		}
		client.Same(t, "on partition "+partition, before, modseq.ReplaceAllString(s.snapshot(t, user), "*"))
		s.refused(t, user)
		s.deliver(t, client.Message("plain on "+partition, 1), user) // into the partition's own stage.
		c := s.enter(t, user)
		for _, command := range []string{"SELECT INBOX", `STORE * +FLAGS (\Deleted)`, "EXPUNGE"} {
			c.OK(t, "%s", command)
		}
		c.Close()
		before = modseq.ReplaceAllString(s.snapshot(t, user), "*")
	}
	s.Unlock(t, user)
	if now := s.bodies(t, user); !maps.Equal(bodies, now) {
		t.Errorf("other bodies: %d messages, before %d", len(now), len(bodies))
	}
	if r := s.Call(t, nil, "verify"); r.Code != 0 {
		t.Errorf("verify: exit %d: %s%s", r.Code, r.Out, r.Err)
	}
	s.judgeLog(t, nil)
}
