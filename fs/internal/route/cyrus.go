package route

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// spot is what a directory is in a Cyrus partition, where it is not below a user's
// or a mailbox's own. mboxname_hash and mboxname_id_hash of Cyrus make these paths:
//
//	[h/]user/<user>/…                     a user's mailboxes
//	[h/]DELETED/user/<user>/…/<hex>       those that were deleted
//	domain/[h/]<domain>/[h/]user/<user>/… the same with virtual domains
//	uuid/<x>/<y>/<id>/                    one mailbox, whose name is in its cyrus.header
//	stage./, sync./<pid>/                 messages on the way
//
// where h is a letter. Any other path is that of a shared mailbox, which is nobody's.
type spot uint8

const (
	outside   spot = iota // of Cyrus' structure, or of another profile
	above                 // on the way to a partition
	partition             // or a domain's directory, which looks the same
	hashed                // below a letter that spreads users
	domains               // domain/
	hashedDomains
	deleted // DELETED/
	users   // user/
	uuid    // uuid/, and its two levels of letters
	uuidX
	uuidY
)

// Files and directories that Cyrus knows by these names.
const (
	// HeaderName is the file in a mailbox's directory that tells the mailbox's name.
	HeaderName = "cyrus.header"

	stageName  = "stage." // messages during delivery
	syncName   = "sync."  // messages during replication
	domainName = "domain"
	userName   = "user"
	deleteName = "DELETED"
	uuidName   = "uuid"
)

var cyrusProfile = profile{
	meta:     []string{"#sieve/**"}, // scripts: read at each delivery
	messages: []string{"[0-9]*."},
	private:  []string{"cyrus.squat*", "xapian*/**"}, // search indexes: words of bodies
	cyrus:    true,
}

// parsePartition compiles the template of profile cyrus: the path of the partitions
// below the view, "*" standing for any directory, and %u for what is in them.
func parsePartition(s string) ([]string, error) {
	parts := strings.Split(s, "/")
	last := len(parts) - 1
	bad := func(p string) bool {
		return p == "" || p == "." || p == ".." || strings.Contains(p, "%") || strings.Contains(p, "*") && p != "*"
	}
	if parts[last] != "%u" || slices.ContainsFunc(parts[:last], bad) {
		return nil, fmt.Errorf("user template %q: with profile \"cyrus\" write \"%%u\" for a view that is one partition, "+
			"\"directory/%%u\" or \"*/%%u\" for partitions below it", s)
	}
	return parts[:last], nil
}

// descendCyrus tells what the subdirectory name of d is; c is a copy of d.
func (d *Dir) descendCyrus(c *Dir, name string) {
	if d.user != "" {
		return
	}
	switch d.spot {
	case above:
		c.enterPrefix(name)
	case partition:
		c.enterPartition(name)
	case hashed, deleted:
		if c.spot = mailboxes(name); d.spot == deleted && c.spot == deleted {
			c.spot = outside
		}
	case domains, hashedDomains:
		if c.spot = hashedDomains; d.spot == hashedDomains || !isLetter(name) {
			c.spot, c.vars.d = partition, name
		}
	case users:
		c.spot = outside
		c.user, _ = cyrusUser(name, d.vars.d)
	case uuid, uuidX:
		c.spot++
	case uuidY:
		c.spot, c.box = outside, true
	}
}

func mailboxes(name string) spot {
	switch name {
	case userName:
		return users
	case deleteName:
		return deleted
	}
	return outside
}

func (d *Dir) enterPrefix(name string) {
	if want := d.pol.partition[d.depth]; want != "*" && want != name {
		d.spot = outside
		return
	}
	if d.depth++; d.depth == len(d.pol.partition) {
		d.spot = partition
	}
}

func (d *Dir) enterPartition(name string) {
	d.spot = mailboxes(name)
	switch {
	case d.spot != outside:
	case isLetter(name):
		d.spot = hashed
	case d.vars.d != "": // a domain has no more than that
	case name == domainName:
		d.spot = domains
	case name == uuidName:
		d.spot = uuid
	case name == stageName || name == syncName:
		d.scratch = true
	}
}

func isLetter(name string) bool {
	return len(name) == 1 && (name[0]|0x20 >= 'a' && name[0]|0x20 <= 'z')
}

// cyrusUser returns the user whose component of a mailbox name is given: dots are
// written ^ there.
func cyrusUser(component, domain string) (account.User, error) {
	name := strings.ReplaceAll(component, "^", ".")
	if domain != "" {
		name += "@" + domain
	}
	return account.Parse(name)
}
