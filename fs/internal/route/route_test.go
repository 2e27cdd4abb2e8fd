package route

import (
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

func policy(t testing.TB, profile, template string, private, meta []string) *Policy {
	t.Helper()
	p, err := New(profile, template, private, meta)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// dir walks from the root to a directory.
func dir(p *Policy, path string) *Dir {
	d := p.Root()
	for part := range strings.SplitSeq(path, "/") {
		if part != "" {
			d = d.Child(part)
		}
	}
	return d
}

// classed is a name in a directory, and the class that it shall have.
type classed struct {
	dir, name string
	want      Class
}

// classes checks the classes of names in directories below top.
func classes(t *testing.T, p *Policy, top string, all []classed) {
	t.Helper()
	for _, tt := range all {
		if got := dir(p, top+tt.dir).Class(tt.name); got != tt.want {
			t.Errorf("%s/%s is of class %d, want %d", tt.dir, tt.name, got, tt.want)
		}
	}
}

// owned is a directory of a policy with a template, and whose it shall be: a user's, nobody's, or above those of users.
type owned struct {
	template, dir string
	user          account.User
	above         bool
}

// owners checks whose directories are.
func owners(t *testing.T, profile string, all []owned) {
	t.Helper()
	for _, tt := range all {
		d := dir(policy(t, profile, tt.template, nil, nil), tt.dir)
		if d.User() != tt.user || d.Above() != tt.above {
			t.Errorf("%s: %q belongs to %q, above %v; want %q, %v", tt.template, tt.dir, d.User(), d.Above(), tt.user, tt.above)
		}
	}
}

func TestClasses(t *testing.T) {
	t.Parallel()
	for _, profile := range []string{"maildir", "dovecot-maildir"} {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			classes(t, policy(t, profile, "%u", nil, nil), "", []classed{
				{"alice/cur", "1700000000.M1.x:2,S", Message},
				{"alice/new", "1", Message},
				{"alice/tmp", "1", Message},
				{"alice/.Sent/cur", "1", Message},
				{"alice/a/b/c/cur", "dovecot.index.cache", Message},
				{"alice", "dovecot.index.cache", Private},
				{"alice", "dovecot.index.cache.lock", Private},
				{"alice/.Sent", "dovecot.index.cache", Private},
				{"alice", "dovecot.index.search", Private},
				{"alice/lucene-indexes", "x", Private},
				{"alice/.Sent/fts-flatcurve/current.1", "termlist.glass", Private},
				{"alice/xapian-indexes/a/b", "c", Private},
				{"alice/cur/sub", "1", Meta},
				{"alice/curd", "1", Meta},
				{"alice", "dovecot.index", Meta},
				{"alice", "dovecot.index.log", Meta},
				{"alice", "dovecot-uidlist", Meta},
				{"alice", "subscriptions", Meta},
				{"alice", "maildirsize", Meta},
				{"alice", "cur", Meta},
				{"alice/sieve", "x.sieve", Meta},
				{"alice/sieve/tmp", "x.sieve", Meta},
				{"alice/.sieve/tmp", "1", Message},
				{"alice", "anything", Meta},
				{"", "file", Meta},
				{"cur", "1", Meta}, // the directory of a user named cur
			})
		})
	}
}

// TestOwnPatterns checks that the patterns of the configuration go before those of the profile, meta before private.
func TestOwnPatterns(t *testing.T) {
	t.Parallel()
	p := policy(t, "dovecot-maildir", "%u",
		[]string{"secret*", "notes/*", "deep/er/*.x", "vault/**", "both", "dovecot.index.log"},
		[]string{"dovecot.index.cache*", "tmp/*.meta", "open/**", "both", "vault/not"})
	classes(t, p, "x/", []classed{
		{"u", "secret.txt", Private},
		{"u/notes", "x", Private},
		{"u/notes/sub", "x", Meta},
		{"u/deep/er", "1.x", Private},
		{"u/er", "1.x", Meta},
		{"u/deep/er/er", "1.x", Meta},
		{"u/vault", "x", Private},
		{"u/vault/a/b", "x", Private},
		{"u/vault", "not", Meta},
		{"u/vault/a", "not", Private},
		{"u", "both", Meta},
		{"u", "dovecot.index.cache", Meta},
		{"u", "dovecot.index.log", Private},
		{"u/tmp", "1.meta", Meta},
		{"u/tmp", "1", Message},
		{"u/open/cur", "1", Meta},
		{"u/open", "secret", Meta},
		{"u/vault/cur", "1", Private},
		{"u/vault/open", "1", Private},
	})
}

func TestUsers(t *testing.T) {
	t.Parallel()
	owners(t, "maildir", []owned{
		{"%u", "", "", true},
		{"%u", "alice", "alice", false},
		{"%u", "alice@example.org", "alice@example.org", false},
		{"%u", "alice/cur", "alice", false},
		{"%u", "alice/bob/carol", "alice", false},
		{"%d/%n", "example.org", "", true},
		{"%d/%n", "example.org/alice", "alice@example.org", false},
		{"%d/%n", "example.org/alice/cur", "alice@example.org", false},
		{"%n", "alice", "alice", false},
		{"home/%u/Maildir", "home", "", true},
		{"home/%u/Maildir", "home/alice", "", true},
		{"home/%u/Maildir", "home/alice/Maildir", "alice", false},
		{"home/%u/Maildir", "home/alice/Maildir/cur", "alice", false},
		{"home/%u/Maildir", "home/alice/other", "", false},
		{"home/%u/Maildir", "srv", "", false},
		{"home/%u/Maildir", "srv/alice/Maildir", "", false},
		{"%d/box-%n.d", "x.org/box-bob.d", "bob@x.org", false},
		{"%d/box-%n.d", "x.org/box-.d", "", false},
		{"%d/box-%n.d", "x.org/bob.d", "", false},
		{"%d/box-%n.d", "x.org/box-bob", "", false},
		{"%n/at/%d", "bob/at/x.org/cur", "bob@x.org", false},
		{"%u", "a\nb", "", false}, // no user name: nobody's
		{"%u", strings.Repeat("a", 255), account.User(strings.Repeat("a", 255)), false},
	})
}

// TestSiblings checks that a directory is not changed by its children.
func TestSiblings(t *testing.T) {
	t.Parallel()
	p := policy(t, "maildir", "%d/%n", nil, []string{"open/**"})
	d := dir(p, "example.org")
	a, b := d.Child("alice"), d.Child("bob")
	a.Child("open").Child("x")
	if a.User() != "alice@example.org" || b.User() != "bob@example.org" || d.User() != "" || !d.Above() {
		t.Errorf("users %q, %q, %q", a.User(), b.User(), d.User())
	}
	if got := a.Child("cur").Class("1"); got != Message {
		t.Errorf("class %d after a sibling", got)
	}
}

func TestBegun(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"alice/tmp/1": "maildir", "alice/.Sent/tmp/1": "maildir", "tmp/1": "", "alice/new/1": "", "alice/tmp/sub/1": "",
		"alice/dbox-Mails/.temp.1.P1Q0M1.h": "dovecot-sdbox", "alice/u.1": "", "alice/.temp.x": "", "user/alice/tmp/1.": "maildir",
	} {
		i := strings.LastIndexByte(path, '/')
		for _, profile := range Profiles {
			d := dir(policy(t, profile, "%u", nil, nil), path[:i])
			if got := d.Begun(path[i+1:]); got != (want != "" && strings.TrimPrefix(profile, "dovecot-") == strings.TrimPrefix(want, "dovecot-")) {
				t.Errorf("%s: %s: %v", profile, path, got)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for _, template := range []string{"", "/", "/%u", "%u/", "a", "%d", "%x", "%", "%u/%u", "%u/%n", "%u/%d/%n", "%n/%n", "%d/%n/%n", "%u%d", "%d%n", ".", "../%u", "a//%u", "%u/..", "%%"} {
		if _, err := New("maildir", template, nil, nil); err == nil {
			t.Errorf("template %q is taken", template)
		}
	}
	for _, pattern := range []string{"", "/", "a/", "a/b/", "a//b", "a/b/**", "**", "/**", "a/**/b", "**/b", "a**", "a/b**", "[", "a[/b", "a/[", `\`} {
		if _, err := New("maildir", "%u", []string{pattern}, nil); err == nil {
			t.Errorf("private pattern %q is taken", pattern)
		}
		if _, err := New("maildir", "%u", nil, []string{pattern}); err == nil {
			t.Errorf("meta pattern %q is taken", pattern)
		}
	}
	for _, profile := range []string{"", "Cyrus", "mdbox", "Maildir"} {
		if _, err := New(profile, "%u", nil, nil); err == nil {
			t.Errorf("profile %q is taken", profile)
		}
	}
}

// TestUserCalledNew checks that a user's own directory, and those above it, are no folders: their names are nobody's
// choice of a class.
func TestUserCalledNew(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"new", "cur", "tmp", "lucene-indexes"} {
		for template, place := range map[string]string{"%d/%n": "example.org/" + name, "%u": name, "%d/%n/Maildir": name + "/alice/Maildir"} {
			d := dir(policy(t, "maildir", template, nil, nil), place)
			if got := d.Class("dovecot.index.log"); got != Meta {
				t.Errorf("%s: %s/dovecot.index.log is of class %d", template, place, got)
			}
			if got := d.Child("new").Class("1"); got != Message {
				t.Errorf("%s: a message of %s is of class %d", template, place, got)
			}
			if got := d.Child("lucene-indexes").Class("1"); got != Private {
				t.Errorf("%s: an index of %s is of class %d", template, place, got)
			}
		}
	}
}
