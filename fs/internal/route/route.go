// Package route tells whose entry a path of the view is and how its content is
// encrypted, from the profile and the templates of the configuration (the classes
// of a mail store). It is pure: it never looks at a store.
package route

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// Class is what a regular file's content is encrypted with, and how it is laid out.
type Class uint8

const (
	// Meta files are encrypted under the site's key, in the padded layout.
	Meta Class = iota
	// Private files are encrypted under their user's keys, in the padded layout.
	Private
	// Message files are private and written once (FORMAT.md C11).
	Message
	// Scratch files are nobody's, written once, and encrypted under a key that ends
	// with the process (FORMAT.md C15).
	Scratch
)

// profile is a named set of patterns; meta goes before messages and private.
type profile struct {
	meta, messages, private []string
	begun                   []string // what messages are called before they are whole
	cyrus                   bool     // whose a directory is, is told by Cyrus' structure
}

var dovecotPrivate = []string{
	"dovecot.index.cache*", "dovecot.index.search*", // header text; squat's index
	"lucene-indexes/**", "xapian-indexes/**", "fts-flatcurve/**", // full-text indexes
}

// maildirMeta keeps what looks like the tmp of a folder and is not: a script saved
// there is read at each delivery, also while its user is locked.
var maildirMeta = []string{"sieve/tmp/*"}

// sdboxMessages are u.<uid>, and the name under which Dovecot writes a message before
// it knows the uid: .temp.<time>.P<process>Q<count>M<microseconds>.<host>.
var sdboxMessages = []string{"u.*", ".temp.[0-9]*.P[0-9]*Q[0-9]*M[0-9]*.*"}

// Profiles are the names of the profiles.
var Profiles = [...]string{"maildir", "dovecot-maildir", "dovecot-sdbox", "cyrus"}

func profileOf(name string) (profile, error) {
	switch name {
	case "maildir", "dovecot-maildir":
		return profile{meta: maildirMeta, messages: []string{"cur/*", "new/*", "tmp/*"}, private: dovecotPrivate, begun: []string{"tmp/*"}}, nil
	case "dovecot-sdbox":
		return profile{messages: sdboxMessages, private: dovecotPrivate, begun: sdboxMessages[1:]}, nil
	case "cyrus":
		return cyrusProfile, nil
	}
	return profile{}, fmt.Errorf("unknown profile %q: use one of %q", name, Profiles)
}

// Policy is a compiled layout: profile, patterns and user template.
type Policy struct {
	rules     []rule
	begun     []rule
	template  []component
	cyrus     bool
	partition []string // with cyrus: the path of the partitions, "*" for any name
}

type rule struct {
	dirs  []string // the last components of the directory's path
	base  string
	tree  bool
	class Class
}

// New compiles a policy. template is a path below the root of the view whose
// components are literal text with at most one of %u, %d, %n each (with profile
// "cyrus": the path of the partitions and %u); private and
// meta are patterns of path.Match for "name", "directory/name" (with any number of
// directories) or "directory/**" that go before those of the profile, meta before
// private.
func New(profileName, template string, private, meta []string) (*Policy, error) {
	p, err := profileOf(profileName)
	if err != nil {
		return nil, err
	}
	pol := Policy{cyrus: p.cyrus}
	for _, set := range []struct {
		patterns []string
		class    Class
	}{{meta, Meta}, {private, Private}, {p.meta, Meta}, {p.messages, Message}, {p.private, Private}} {
		for _, s := range set.patterns {
			r, err := parseRule(s, set.class)
			if err != nil {
				return nil, err
			}
			pol.rules = append(pol.rules, r)
		}
	}
	for _, s := range p.begun {
		r, err := parseRule(s, Message)
		if err != nil {
			return nil, err
		}
		pol.begun = append(pol.begun, r)
	}
	if p.cyrus {
		pol.partition, err = parsePartition(template)
	} else {
		pol.template, err = parseTemplate(template)
	}
	return &pol, err
}

func parseRule(s string, c Class) (rule, error) {
	parts := strings.Split(s, "/")
	last := len(parts) - 1
	r := rule{dirs: parts[:last], base: parts[last], class: c}
	if r.base == "**" {
		r.tree, r.base = true, "*"
	}
	if r.tree && len(r.dirs) != 1 || slices.Contains(parts, "") || strings.Contains(s, "**") && !r.tree {
		return r, fmt.Errorf("pattern %q is none of \"name\", \"directory/name\" (with one or more directories), \"directory/**\"", s)
	}
	for _, g := range parts {
		if _, err := path.Match(g, ""); err != nil {
			return r, fmt.Errorf("pattern %q: %w", s, err)
		}
	}
	return r, nil
}

// holds reports whether the files of directory d are below the directories of r. A
// user's own directory, and what is above, is named after users and never matches.
func (r *rule) holds(d *Dir) bool {
	for i := len(r.dirs) - 1; i >= 0; i-- {
		if d.up == nil || d.up.user == "" || !match(r.dirs[i], d.name) {
			return false
		}
		d = d.up
	}
	return true
}

// Dir is a directory of the view as the policy sees it. It is immutable and safe
// for concurrent use.
type Dir struct {
	pol    *Policy
	up     *Dir
	name   string
	depth  int  // components of the template that its path has matched
	off    bool // left the template: nobody's, for good
	vars   variables
	user   account.User
	tree   Class // class of everything below, when inTree
	inTree bool

	// With profile cyrus only:
	spot    spot
	scratch bool // of messages on the way: see Scratch
	box     bool // its header tells the mailbox: see Box
	former  []account.User
}

// Root returns the root of the view.
func (p *Policy) Root() *Dir {
	d := &Dir{pol: p}
	if p.cyrus {
		if d.spot = above; len(p.partition) == 0 {
			d.spot = partition
		}
	}
	return d
}

// Child returns the subdirectory name of d.
func (d *Dir) Child(name string) *Dir {
	c := &Dir{pol: d.pol, up: d, name: name, depth: d.depth, off: d.off, vars: d.vars, user: d.user, tree: d.tree, inTree: d.inTree}
	if d.pol.cyrus {
		c.spot, c.scratch, c.former = d.spot, d.scratch, d.former
		d.descendCyrus(c, name)
		c.off = c.user == "" && c.spot == outside
	} else if c.user == "" && !c.off {
		c.descend(name)
	}
	if !c.inTree && d.user != "" {
		for _, r := range d.pol.rules {
			if r.tree && match(r.dirs[0], name) {
				c.tree, c.inTree = r.class, true
				break
			}
		}
	}
	return c
}

func (d *Dir) descend(name string) {
	if !d.pol.template[d.depth].match(name, &d.vars) {
		d.off = true
		return
	}
	d.depth++
	if d.depth < len(d.pol.template) {
		return
	}
	user, err := d.vars.user()
	d.user, d.off = user, err != nil
}

// User returns the user in whose subtree d lies, d itself included; "" if nobody's.
func (d *Dir) User() account.User { return d.user }

// Above reports whether subtrees of users may begin below d: such a directory is
// nobody's, yet must not be moved.
func (d *Dir) Above() bool { return d.user == "" && !d.off }

// Begun reports whether messages are begun in d under name, and get another place or
// name when they are whole: one without an end is no damage.
func (d *Dir) Begun(name string) bool {
	return slices.ContainsFunc(d.pol.begun, func(r rule) bool { return match(r.base, name) && r.holds(d) })
}

// Scratch reports whether d holds messages on the way to mailboxes.
func (d *Dir) Scratch() bool { return d.scratch }

// Apart reports whether content may not move or be linked between d and e, because
// it is encrypted for different owners.
func (d *Dir) Apart(e *Dir) bool { return d.user != e.user || d.scratch != e.scratch }

// Class returns the class of the regular file name in d.
func (d *Dir) Class(name string) Class {
	if d.scratch {
		return Scratch
	}
	for i := range d.pol.rules {
		r := &d.pol.rules[i]
		if r.tree {
			if d.inTree && d.tree == r.class {
				return r.class
			}
			continue
		}
		if match(r.base, name) && r.holds(d) {
			return r.class
		}
	}
	return Meta
}

func match(pattern, name string) bool {
	ok, _ := path.Match(pattern, name) // the pattern was checked by parseRule
	return ok
}
