package cyrus

import (
	"os"
	"path/filepath"
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
	sorted := client.NewSorted(prefix)
	round := func(name string) {
		t.Helper()
		sorted.Round(name, func(message string) { s.deliver(t, message, modes...) })
		sorted.Deliver("alone "+name, 1, func(message string) {
			for _, u := range modes {
				s.deliver(t, message, u)
			}
		})
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
		t.Run(u, func(t *testing.T) { s.arrived(t, u, sorted) })
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
func (s *site) arrived(t *testing.T, user string, sorted *client.Sorted) {
	t.Helper()
	s.noStage(t)
	sorted.Arrived(t, s.enter(t, user), s.bodies(t, user))
}

// noStage checks that no delivery has left anything behind.
func (s *site) noStage(t testing.TB) {
	t.Helper()
	entries, err := os.ReadDir(s.path(mail + "/stage."))
	if err != nil || len(entries) > 0 {
		t.Errorf("in stage.: %v %v", entries, err)
	}
}
