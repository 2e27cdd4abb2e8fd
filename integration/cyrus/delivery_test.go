package cyrus

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
)

// forLayouts runs a test once for each kind of mailbox directory.
func forLayouts(t *testing.T, test func(t *testing.T, l layout), layouts ...layout) {
	t.Helper()
	for _, l := range layouts {
		t.Run(string(l), func(t *testing.T) {
			t.Parallel()
			test(t, l)
		})
	}
}

// TestDelivery delivers by LMTP to a user of each mode at once, in one transaction each time, and wants every message in
// its folder, once, under the key of whose it is.
func TestDelivery(t *testing.T) {
	t.Parallel()
	forLayouts(t, testDelivery, legacy, uuid)
}

func testDelivery(t *testing.T, l layout) {
	s := newSite(t, options{layout: l}, modes...)
	s.script(t, modes...)
	s.Unlock(t, "unlocked")
	for _, u := range modes {
		s.enter(t, u).OK(t, "CREATE INBOX.Work")
	}
	want := map[string]int{} // deliveries by subject
	round := func(name string) {
		t.Helper()
		for _, subject := range []string{"plain", "to-work", "to-new", "to-flags", "flags-new"} {
			subject += " " + name
			s.deliver(t, client.Message(subject, 3), modes...)
			want[subject]++
		}
		alone := "alone " + name
		for _, u := range modes {
			s.deliver(t, client.Message(alone, 1), u)
		}
		want[alone]++
		large := "large " + name
		s.deliver(t, client.Message(large, 5000), modes...)
		want[large]++
		var all sync.WaitGroup
		for i := range 20 {
			subject := "parallel " + string(rune('a'+i)) + " " + name
			want[subject]++
			all.Go(func() { s.deliver(t, client.Message(subject, 3*i), modes...) })
		}
		all.Wait()
	}
	round("first")
	s.Unlock(t, "cycle")
	s.sealed(t, "locked")
	s.readable(t, "unlocked")
	round("second")
	s.Lock(t, "cycle")
	s.sealed(t, "cycle")
	s.forgetCompiled(t, len(modes))
	round("third")
	s.sealed(t, "locked")
	s.refused(t, "locked")
	s.Unlock(t, "cycle", "locked")
	for _, u := range modes {
		t.Run(u, func(t *testing.T) { s.arrived(t, u, want) })
	}
	s.judgeLog(t, nil)
}

// forgetCompiled removes the compiled scripts of so many users: Cyrus compiles them again at the next delivery, from the
// mailboxes of users who may be locked.
func (s *site) forgetCompiled(t testing.TB, users int) {
	t.Helper()
	must(t, filepath.WalkDir(s.path(sieveDir), func(path string, d os.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".bc" {
			users--
			err = os.Remove(path)
		}
		return err
	}))
	if users != 0 {
		t.Errorf("%d compiled scripts are missing", users)
	}
}

// arrived checks that a user has each message once, whole, and in its folder with its flags.
func (s *site) arrived(t *testing.T, user string, want map[string]int) {
	t.Helper()
	s.noStage(t)
	got := map[string]int{}
	for place, text := range s.bodies(t, user) {
		_, rest, _ := strings.Cut(text, "Subject: ")
		subject, _, _ := strings.Cut(rest, "\r\n")
		got[subject]++
		folder, _, _ := strings.Cut(place, "/")
		if wanted := folderOf(subject); folder != wanted {
			t.Errorf("%q is in %s, not in %s", subject, folder, wanted)
		}
		lines := strings.Count(text, "line ")
		if !strings.HasSuffix(strings.TrimSuffix(text, ")"), client.CRLF(client.Message(subject, lines))) {
			t.Errorf("%q is damaged: %.500q", subject, text)
		}
	}
	for subject, n := range want {
		if got[subject] != n {
			t.Errorf("%q: %d times, want %d", subject, got[subject], n)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d subjects, want %d", len(got), len(want))
	}
	c := s.enter(t, user)
	flags := func(folder, search string, n int) {
		t.Helper()
		c.OK(t, "EXAMINE %q", folder)
		if found := strings.Fields(c.OK(t, "SEARCH %s", search)[0])[2:]; len(found) != n {
			t.Errorf("%s in %s: %q, want %d", search, folder, found, n)
		}
	}
	flags("INBOX", "FLAGGED KEYWORD $Label1 KEYWORD custom", 3)
	flags("INBOX", "FLAGGED", 3)
	flags("INBOX.Flags", "SEEN KEYWORD other", 3)
	flags("INBOX.Work", "ALL", 3)
}

func folderOf(subject string) string {
	switch {
	case strings.HasPrefix(subject, "to-work"):
		return "INBOX.Work"
	case strings.HasPrefix(subject, "flags-new"):
		return "INBOX.Flags"
	case strings.HasPrefix(subject, "to-new"):
		return "INBOX.Made.By Sieve"
	}
	return "INBOX"
}

// noStage checks that no delivery has left anything behind.
func (s *site) noStage(t testing.TB) {
	t.Helper()
	entries, err := os.ReadDir(s.path(mail + "/stage."))
	if err != nil || len(entries) > 0 {
		t.Errorf("in stage.: %v %v", entries, err)
	}
}
