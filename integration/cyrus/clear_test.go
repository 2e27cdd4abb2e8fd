package cyrus

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// TestClear looks for what must not be found in the clear after all kinds of use: in the store nothing at all, and outside
// the view only what the README says is there.
func TestClear(t *testing.T) {
	t.Parallel()
	const user = "alice"
	s := newSite(t, options{layout: legacy}, user)
	s.populate(t, user)
	c := s.login(t, user)
	for _, command := range []string{"SELECT INBOX", "FETCH 1:* BODY[]", `SEARCH BODY "text"`, "COPY 1:* INBOX.Work", "CREATE INBOX.Hidden", "LOGOUT"} {
		c.OK(t, "%s", command)
	}
	s.deliver(t, client.Message("plain later", 5000), user)
	texts := []string{"text of", "sender@example", "list@example", "From:", "Subject:"}
	names := []string{"Hidden", "flags-new", "to-work", "keyword-of-mine"}
	if found := harness.FindClear(t, slices.Concat(texts, names), s.Store); len(found) > 0 {
		t.Errorf("in the store: %q", found)
	}
	places := []string{s.path("/var/lib/cyrus"), s.path("/var/spool"), s.path("/run"), s.path("/tmp"), s.path("/dev/shm")}
	if found := harness.FindClear(t, texts, places...); len(found) > 0 {
		t.Errorf("outside the view: %q", found)
	}
	known := []string{"/deliver.db", "/mailboxes.db", "/alice.sub", "/cyrus/lock/", "/db.backup"}
	for _, found := range harness.FindClear(t, names, places...) {
		if !slices.ContainsFunc(known, func(k string) bool { return strings.Contains(found, k) }) {
			t.Errorf("outside the view: %s", found)
		}
	}
	if compiled, err := filepath.Glob(s.path(sieveDir + "/*/alice/*.bc")); err != nil || len(compiled) == 0 {
		t.Errorf("no compiled script in the view: %v", err)
	} else if b, err := os.ReadFile(compiled[0]); err != nil || !strings.Contains(string(b), "flags-new") {
		t.Errorf("a compiled script: %d bytes %v", len(b), err)
	}
}
