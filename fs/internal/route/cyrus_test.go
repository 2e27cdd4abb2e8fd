package route

import (
	"slices"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

func TestSdboxClasses(t *testing.T) {
	t.Parallel()
	p := policy(t, "dovecot-sdbox", "%u", nil, nil)
	classes(t, p, "", []classed{
		{"alice/sdbox/mailboxes/INBOX/dbox-Mails", "u.1", Message},
		{"alice/sdbox/mailboxes/INBOX/dbox-Mails", "u.4711.broken", Message},
		{"alice/sdbox/mailboxes/INBOX/dbox-Mails", ".temp.1700000000.P4711Q0M123456.mail.example.org", Message},
		{"alice/alt/mailboxes/INBOX/dbox-Mails", "u.1", Message},
		{"alice/sdbox/mailboxes/INBOX/dbox-Mails", ".temp.mail.4711.0f0f0f0f", Meta}, // of a lock
		{"alice/sdbox/mailboxes/INBOX/dbox-Mails", "dovecot.index", Meta},
		{"alice/sdbox/mailboxes/INBOX/dbox-Mails", "dovecot.index.log", Meta},
		{"alice/sdbox/mailboxes/INBOX/dbox-Mails", "dovecot.index.cache", Private},
		{"alice/sdbox/mailboxes/INBOX/dbox-Mails/fts-flatcurve/current.1", "termlist.glass", Private},
		{"alice/sdbox", "dovecot.list.index.log", Meta},
		{"alice/sdbox", "subscriptions", Meta},
		{"alice/cur", "1", Meta}, // not a maildir
	})
}

func TestCyrusUsers(t *testing.T) {
	t.Parallel()
	owners(t, "cyrus", []owned{
		{"%u", "", "", true},
		{"%u", "user", "", true},
		{"%u", "user/alice", "alice", false},
		{"%u", "user/alice/Sent/2024", "alice", false},
		{"%u", "user/john^doe/Sent", "john.doe", false},
		{"%u", "user/alice@example^org", "alice@example.org", false},
		{"%u", "a", "", true},
		{"%u", "a/user", "", true},
		{"%u", "a/user/alice", "alice", false},
		{"%u", "Q/user/alice/Sent", "alice", false},
		{"%u", "u/DELETED", "", true},
		{"%u", "u/DELETED/user/alice/5F0A0B0C", "alice", false},
		{"%u", "DELETED/user/alice/Sent/5F0A0B0C", "alice", false},
		{"%u", "DELETED/DELETED/user/alice", "", false},
		{"%u", "DELETED/public/5F0A", "", false},
		{"%u", "domain", "", true},
		{"%u", "domain/example.org", "", true},
		{"%u", "domain/example.org/user/alice", "alice@example.org", false},
		{"%u", "domain/e/example.org/a/user/alice/Sent", "alice@example.org", false},
		{"%u", "domain/e/example.org/u/DELETED/user/alice/5F", "alice@example.org", false},
		{"%u", "domain/e/example.org/p/public", "", false},
		{"%u", "domain/example.org/uuid/a/b/ab", "", false},
		{"%u", "public/user/bob", "", false}, // a shared mailbox
		{"%u", "p/public/user/bob", "", false},
		{"%u", "stage.", "", false},
		{"%u", "sync./4711", "", false},
		{"%u", "uuid", "", true},
		{"%u", "uuid/a/b", "", true},
		{"%u", "uuid/a/b/ab12", "", false},
		{"%u", "users/alice", "", false},
		{"default/%u", "user/alice", "", false},
		{"default/%u", "default", "", true},
		{"default/%u", "default/user/alice", "alice", false},
		{"*/%u", "a/user/alice", "alice", false},
		{"*/%u", "user/user/alice", "alice", false},
		{"*/%u", "user/alice", "", false},
		{"x/*/%u", "x/y/d/user/d", "d", false},
	})
}

func TestCyrusClasses(t *testing.T) {
	t.Parallel()
	p := policy(t, "cyrus", "%u", nil, nil)
	classes(t, p, "", []classed{
		{"user/alice", "1.", Message},
		{"user/alice/Sent", "4711.", Message},
		{"a/user/alice/#calendars", "1.", Message},
		{"user/alice/#sieve", "1.", Meta},
		{"u/DELETED/user/alice/#sieve/5F0A", "1.", Meta},
		{"user/alice", "cyrus.index", Meta},
		{"user/alice", "cyrus.cache", Meta},
		{"user/alice", "cyrus.header.NEW", Meta},
		{"user/alice", "cyrus.annotations", Meta},
		{"user/alice", "cyrus.squat", Private},
		{"user/alice", "cyrus.squat.NEW", Private},
		{"user/alice/xapian.1", "postlist.glass", Private},
		{"user/alice", "1", Meta},
		{"user/alice", ".", Meta},
		{"user/alice", "unknown", Meta},
		{"stage.", "4711-1700000000-0", Scratch},
		{"sync./4711", "0123456789abcdef", Scratch},
		{"user/alice/stage.", "1", Meta},
		{"user/xapian", "1.", Message}, // a user
		{"user/#sieve", "1.", Message},
	})
}

func TestCyrusApart(t *testing.T) {
	t.Parallel()
	p := policy(t, "cyrus", "%u", nil, nil)
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"user/alice", "user/alice/Sent", false},
		{"user/alice", "DELETED/user/alice/5F", false},
		{"user/alice", "user/bob", true},
		{"user/alice", "public", true},
		{"public", "p/other", false},
		{"stage.", "public", true},
		{"stage.", "user/alice", true},
		{"stage.", "sync./1", false},
	} {
		a, b := dir(p, tt.a), dir(p, tt.b)
		if a.Apart(b) != tt.want || b.Apart(a) != tt.want {
			t.Errorf("%q and %q: apart %v, %v; want %v", tt.a, tt.b, a.Apart(b), b.Apart(a), tt.want)
		}
	}
}

func TestPathsOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		profile, template string
		user              account.User
		want              string // some of the paths
		count             int
	}{
		{"maildir", "%d/%n", "alice@example.org", "example.org/alice", 1},
		{"maildir", "%d/%n", "alice", "", 0},
		{"maildir", "home/%u/Maildir", "alice", "home/alice/Maildir", 1},
		{"cyrus", "%u", "alice", "user/alice a/user/alice DELETED/user/alice u/DELETED/user/alice", 6},
		{"cyrus", "%u", "john.doe", "j/user/john^doe user/john^doe", 6},
		{"cyrus", "%u", "alice@example.org",
			"user/alice@example^org domain/example.org/user/alice domain/e/example.org/a/user/alice domain/e/example.org/u/DELETED/user/alice", 24},
		{"cyrus", "%u", "0x", "q/user/0x", 6},
	} {
		p := policy(t, tt.profile, tt.template, nil, nil)
		var got []string
		for _, path := range p.PathsOf(tt.user, nil) {
			got = append(got, strings.Join(path, "/"))
		}
		if len(got) != tt.count {
			t.Errorf("%s %s: %d paths of %s, want %d: %q", tt.profile, tt.template, len(got), tt.user, tt.count, got)
		}
		for want := range strings.FieldsSeq(tt.want) {
			if !slices.Contains(got, want) {
				t.Errorf("%s %s: %s is missing of %s: %q", tt.profile, tt.template, want, tt.user, got)
			}
		}
	}
}

// TestHashes compares with what Cyrus 3.6 makes of names (hashimapspool, fulldirhash).
func TestHashes(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"alice": "a L", "Bob": "b D", "0x": "q W", "john.doe": "j K", "user": "u C"} {
		h := hashes(name)
		if got := h[1][0] + " " + h[2][0]; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestCyrusRefused(t *testing.T) {
	t.Parallel()
	for _, template := range []string{"", "%n", "%d/%n", "%u/x", "a*/%u", "/%u", "a//%u", "../%u", "x%u", "%%/%u"} {
		if _, err := New("cyrus", template, nil, nil); err == nil {
			t.Errorf("template %q is taken", template)
		}
	}
}
