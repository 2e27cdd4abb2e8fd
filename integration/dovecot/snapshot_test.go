package dovecot

import (
	"strings"
	"testing"
)

// snapshot is everything that clients rely on to stay the same, and that needs no message to be opened: folders,
// subscriptions, quota; UIDVALIDITY, the next UID and each message's UID, flags, keywords, date and size.
func (h *host) snapshot(t testing.TB, user string) string {
	t.Helper()
	c := h.login(t, user)
	defer c.Close()
	all := append(c.OK(t, `LIST "" "*"`), c.OK(t, `LSUB "" "*"`)...)
	all = append(all, c.OK(t, "GETQUOTAROOT INBOX")...)
	for _, folder := range c.Folders(t, "*") {
		all = append(all, "folder "+folder)
		all = append(all, c.OK(t, "STATUS %q (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)", folder)...)
		c.OK(t, "EXAMINE %q", folder)
		items := "UID FLAGS RFC822.SIZE INTERNALDATE"
		if h.sdbox {
			items = "UID FLAGS RFC822.SIZE"
		}
		all = append(all, c.OK(t, "UID FETCH 1:* (%s)", items)...)
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
	defer c.Close()
	var all []string
	for _, folder := range c.Folders(t, "*") {
		c.OK(t, "EXAMINE %q", folder)
		all = append(all, c.OK(t, "UID FETCH 1:* (UID INTERNALDATE)")...)
	}
	return strings.Join(all, "\n")
}

// bodies are all messages of a user: "folder/uid" and the whole text.
func (h *host) bodies(t testing.TB, user string) map[string]string {
	t.Helper()
	c := h.login(t, user)
	defer c.Close()
	all, refused := c.Bodies(t, c.Folders(t, "*"))
	if len(refused) > 0 {
		t.Fatalf("FETCH: %q", refused)
	}
	return all
}
