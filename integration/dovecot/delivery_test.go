package dovecot

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// modes are how a user's key comes and goes during a test.
var modes = []string{"locked", "unlocked", "cycle"}

// TestDelivery delivers by LMTP to a user of each mode at once, in one transaction each time, and wants every message in
// its folder, once.
func TestDelivery(t *testing.T) {
	t.Parallel()
	forLayouts(t, options{users: modes}, deliveries)
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
		c.ok(t, "CREATE Work")
		c.logout(t)
	}
	want := map[string]int{} // deliveries by subject
	round := func(name string) {
		t.Helper()
		for _, subject := range []string{"plain", "to-work", "to-new", "to-flags", "flags-new"} {
			subject += " " + name
			h.deliver(t, message(subject, 3), modes...)
			want[subject]++
		}
		large := "large " + name
		h.deliver(t, message(large, 5000), modes...)
		want[large]++
		var all sync.WaitGroup
		for i := range 20 {
			subject := fmt.Sprintf("parallel %d %s", i, name)
			want[subject]++
			all.Go(func() { h.deliver(t, message(subject, 3*i), modes...) })
		}
		all.Wait()
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
		t.Run(u, func(t *testing.T) { h.arrived(t, u, want) })
	}
	h.judgeLog(t, nil)
}

// arrived checks that a user has each message once, whole, and in its folder with its flags.
func (h *host) arrived(t *testing.T, user string, want map[string]int) {
	t.Helper()
	for _, path := range messages(t, h.homeOf(user)) {
		if filepath.Base(filepath.Dir(path)) == "tmp" || strings.HasPrefix(filepath.Base(path), ".temp") {
			t.Errorf("left behind: %s", path)
		}
	}
	got := map[string]int{}
	for place, text := range h.bodies(t, user) {
		_, rest, _ := strings.Cut(text, "Subject: ")
		subject, _, _ := strings.Cut(rest, "\r\n")
		got[subject]++
		folder, _, _ := strings.Cut(place, "/")
		if wantFolder := folderOf(subject); folder != wantFolder {
			t.Errorf("%q is in %s, not in %s", subject, folder, wantFolder)
		}
		lines := strings.Count(text, "line ")
		if !strings.Contains(text, message(subject, lines)[:20]) || !strings.HasSuffix(strings.TrimSuffix(text, ")"), crlf(message(subject, lines))) {
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
	c := h.login(t, user)
	flags := func(folder, search string, n int) {
		t.Helper()
		c.ok(t, "EXAMINE %q", folder)
		if found := strings.Fields(c.ok(t, "SEARCH %s", search)[0])[2:]; len(found) != n {
			t.Errorf("%s in %s: %q, want %d", search, folder, found, n)
		}
	}
	flags("INBOX", "FLAGGED KEYWORD $Label1 KEYWORD custom", 3)
	flags("INBOX", "FLAGGED", 3)
	flags("Flags", "SEEN KEYWORD other", 3)
	flags("Work", "ALL", 3)
}

func folderOf(subject string) string {
	switch {
	case strings.HasPrefix(subject, "to-work"):
		return "Work"
	case strings.HasPrefix(subject, "flags-new"):
		return "Flags"
	case strings.HasPrefix(subject, "to-new"):
		return "Made.By Sieve"
	}
	return "INBOX"
}

func crlf(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }
