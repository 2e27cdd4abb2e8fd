package dovecot

import (
	"slices"
	"strings"
	"testing"
)

// snapshot is everything that clients rely on to stay the same, and that needs no message to be opened: folders,
// subscriptions, quota; UIDVALIDITY, the next UID and each message's UID, flags, keywords, date and size.
func (h *host) snapshot(t testing.TB, user string) string {
	t.Helper()
	c := h.login(t, user)
	defer func() { _ = c.conn.Close() }()
	all := append(c.ok(t, `LIST "" "*"`), c.ok(t, `LSUB "" "*"`)...)
	all = append(all, c.ok(t, "GETQUOTAROOT INBOX")...)
	for _, folder := range c.folders(t) {
		all = append(all, "folder "+folder)
		all = append(all, c.ok(t, "STATUS %q (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)", folder)...)
		c.ok(t, "EXAMINE %q", folder)
		items := "UID FLAGS RFC822.SIZE INTERNALDATE"
		if h.sdbox {
			items = "UID FLAGS RFC822.SIZE"
		}
		all = append(all, c.ok(t, "UID FETCH 1:* (%s)", items)...)
	}
	return marks.Replace(strings.Join(all, "\n"))
}

// marks takes hints from a list of folders that come and go with Dovecot's caches, on any filesystem.
var marks = strings.NewReplacer(` \Marked`, "", ` \UnMarked`, "")

// dates are those of all messages. With sdbox they lie in the files of the messages and in the header cache, and so are not
// to be had of a locked user.
func (h *host) dates(t testing.TB, user string) string {
	t.Helper()
	c := h.login(t, user)
	defer func() { _ = c.conn.Close() }()
	var all []string
	for _, folder := range c.folders(t) {
		c.ok(t, "EXAMINE %q", folder)
		all = append(all, c.ok(t, "UID FETCH 1:* (UID INTERNALDATE)")...)
	}
	return strings.Join(all, "\n")
}

// bodies are all messages of a user: "folder/uid" and the whole text.
func (h *host) bodies(t testing.TB, user string) map[string]string {
	t.Helper()
	c := h.login(t, user)
	defer func() { _ = c.conn.Close() }()
	all := map[string]string{}
	for _, folder := range c.folders(t) {
		c.ok(t, "EXAMINE %q", folder)
		for _, line := range c.ok(t, "UID FETCH 1:* (UID BODY.PEEK[])") {
			_, rest, _ := strings.Cut(line, "UID ")
			uid, _, _ := strings.Cut(rest, " ")
			_, text, found := strings.Cut(rest, "}\r\n")
			if !found {
				t.Fatalf("%s: FETCH: %q", folder, line)
			}
			all[folder+"/"+uid] = text
		}
	}
	return all
}

// same fails the test where two texts differ, with the lines that do.
func same(t testing.TB, what, want, got string) {
	t.Helper()
	if want == got {
		return
	}
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, line := range a {
		if !slices.Contains(b, line) {
			t.Errorf("%s: no longer: %q", what, line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			t.Errorf("%s: new: %q", what, line)
		}
	}
	if !t.Failed() {
		t.Errorf("%s: another order:\n%s\n\n%s", what, want, got)
	}
}
