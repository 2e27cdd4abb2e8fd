package dovecot

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
)

// modes are how a user's key comes and goes during a test.
var modes = []string{"locked", "unlocked", "cycle"}

// TestDelivery delivers by LMTP to a user of each mode at once, in one transaction each time, and wants every message in
// its folder, once.
func TestDelivery(t *testing.T) {
	t.Parallel()
	// LMTP makes the copies for further recipients from that for the first, who is locked: a key opens so long what was sealed
	// under it as half an epoch, and ten seconds at most.
	forLayouts(t, options{users: modes, epoch: "20s"}, deliveries)
}

// forLayouts runs a test with maildir and with sdbox.
func forLayouts(t *testing.T, o options, test func(t *testing.T, h *host)) {
	t.Helper()
	for _, layout := range []string{"maildir", "sdbox"} {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			o := o
			if layout == "sdbox" {
				o.sdbox, o.conf = true, quotaCount+dots
			}
			_, h := newSite(t, o)
			test(t, h)
		})
	}
}

func deliveries(t *testing.T, h *host) {
	h.unlock(t, "unlocked")
	for _, u := range modes {
		c := h.login(t, u)
		c.OK(t, "CREATE Work")
		must(t, c.Logout())
	}
	sorted := client.NewSorted("")
	round := func(name string) {
		t.Helper()
		sorted.Round(name, func(message string) { h.deliver(t, message, modes...) })
	}
	round("first")
	h.unlock(t, "cycle")
	h.sealed(t, "locked")
	round("second")
	h.lock(t, "cycle")
	h.sealed(t, "cycle")
	round("third")
	h.unlock(t, "cycle", "locked")
	for _, u := range modes {
		t.Run(u, func(t *testing.T) { h.arrived(t, u, sorted) })
	}
	h.judgeLog(t, nil)
}

// arrived checks that a user has each message once, whole, and in its folder with its flags.
func (h *host) arrived(t *testing.T, user string, sorted *client.Sorted) {
	t.Helper()
	for _, path := range messages(t, h.homeOf(user)) {
		if filepath.Base(filepath.Dir(path)) == "tmp" || strings.HasPrefix(filepath.Base(path), ".temp") {
			t.Errorf("left behind: %s", path)
		}
	}
	sorted.Arrived(t, h.login(t, user), h.bodies(t, user))
}
