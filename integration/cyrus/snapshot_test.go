package cyrus

import (
	"slices"
	"strings"
	"testing"
)

// own matches the names of a user's own folders.
const own = "INBOX*"

// snapshot is everything that clients rely on to stay the same, and that needs no message to be opened: folders,
// subscriptions, quota; UIDVALIDITY, the next UID, and each message's UID, flags, keywords, date, size and position in the
// history of changes.
func (h *host) snapshot(t testing.TB, user string) string {
	t.Helper()
	c := h.enter(t, user)
	defer c.Close()
	all := append(c.OK(t, `LIST "" "*"`), c.OK(t, `LSUB "" "*"`)...)
	all = append(all, c.OK(t, "GETQUOTAROOT INBOX")...)
	for _, folder := range c.Folders(t, own) {
		all = append(all, "folder "+folder)
		all = append(all, c.OK(t, "STATUS %q (MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ)", folder)...)
		c.OK(t, "EXAMINE %q", folder)
		all = append(all, c.OK(t, "UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE MODSEQ ENVELOPE)")...)
	}
	return strings.Join(all, "\n")
}

// bodies are all messages of a user that can be read: "folder/uid" and the whole text.
func (h *host) bodies(t testing.TB, user string) map[string]string {
	t.Helper()
	c := h.enter(t, user)
	defer c.Close()
	all, _ := c.Bodies(t, c.Folders(t, own))
	return all
}

// refused checks what a session of a locked user gets: full mailboxes, whose messages cannot be opened.
func (h *host) refused(t testing.TB, user string) {
	t.Helper()
	if all := h.bodies(t, user); len(all) > 0 {
		t.Errorf("%d messages of a locked user were read: %q", len(all), all)
	}
	c := h.enter(t, user)
	defer c.Close()
	if answer := c.OK(t, "SELECT INBOX"); slices.Contains(answer, "* 0 EXISTS") {
		t.Errorf("the mailbox of a locked user is empty: %q", answer)
	}
	for _, item := range []string{"BODY.PEEK[]", "BODY.PEEK[HEADER]", "BODY.PEEK[TEXT]", "BINARY.PEEK[1]"} {
		answer, _ := c.Try("FETCH 1 %s", item)
		if text := strings.Join(answer, "\n"); !strings.Contains(text, "no longer exists") && !strings.Contains(text, "\nNO ") {
			t.Errorf("FETCH %s of a locked user says nothing of an error: %q", item, answer)
		}
	}
	if found := c.OK(t, `SEARCH BODY "text of"`); !slices.Equal(found, []string{"* SEARCH"}) {
		t.Errorf("SEARCH BODY of a locked user: %q", found)
	}
	c.OK(t, "NOOP")
}
