package fs

import (
	"fmt"
	"slices"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/route"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/tree"
)

// Layout says whose entries are whose and how they are encrypted, in the words of
// the configuration file.
type Layout struct {
	Profile    string   // "maildir", "dovecot-maildir", "dovecot-sdbox", "cyrus"
	User       string   // template of the users' directories: "%u", "%d/%n", …; of Cyrus' partitions: "%u", "*/%u", …
	Private    []string // further patterns of private files
	Meta       []string // patterns of files that are not private, before all others
	Names      string   // "encrypted", "plain"
	Delivery   string   // for locked users: "sealed", "site", "plaintext"
	Unenrolled string   // for users without identity: "site", "plaintext"
	Plain      string   // plain entries: "serve", "refuse"
}

// Check reports what is wrong with the layout; the error names the key.
func (l Layout) Check() error {
	for _, c := range []struct {
		key, value string
		allowed    []string
	}{
		{"names", l.Names, []string{"encrypted", "plain"}},
		{"delivery", l.Delivery, []string{"sealed", "site", "plaintext"}},
		{"unenrolled", l.Unenrolled, []string{"site", "plaintext"}},
		{"plain", l.Plain, []string{"serve", "refuse"}},
	} {
		if !slices.Contains(c.allowed, c.value) {
			return fmt.Errorf("%s = %q is none of %q", c.key, c.value, c.allowed)
		}
	}
	if l.Plain == "refuse" && (l.Delivery == "plaintext" || l.Unenrolled == "plaintext") {
		return fmt.Errorf("plain = %q contradicts a delivery in plaintext", l.Plain)
	}
	_, err := l.policy()
	return err
}

func (l Layout) policy() (*route.Policy, error) {
	return route.New(l.Profile, l.User, l.Private, l.Meta)
}

func delivery(s string) tree.Delivery {
	switch s {
	case "site":
		return tree.Site
	case "plaintext":
		return tree.Plaintext
	}
	return tree.Sealed
}
