package tree

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/content"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// Needs reports whether the entry name of p has to be converted for goal g, and its
// stored size. The error wraps secret.ErrLocked when the content cannot be read.
func (t *Tree) Needs(p *inode.Inode, name string, g Goal) (bool, backing.Stat, error) {
	d, err := t.dirFor(p, name)
	if err != nil {
		return false, backing.Stat{}, err
	}
	defer d.Release()
	p.NS.RLock()
	defer p.NS.RUnlock()
	s, st, err := t.find(p, d, name)
	if err != nil {
		return false, st, err
	}
	need, err := t.needs(p, d, name, s, &st, g)
	return need, st, err
}

func (t *Tree) needs(p *inode.Inode, d *backing.Dir, name string, s names.Stored, st *backing.Stat, g Goal) (bool, error) {
	if s.Kind.Broken() {
		return false, errBroken
	}
	if g == Encrypt && t.refuses(p, s, st.Type()) {
		return false, errPlain
	}
	if g == HandOver && (st.Type() != unix.S_IFREG || !s.Kind.Sealed()) {
		return false, nil
	}
	to, ok := t.goalName(p, name, st.Type(), g)
	if !ok {
		return false, nil // a name that no plain entry may have
	}
	if to.Kind != s.Kind && g != HandOver {
		return true, nil
	}
	if st.Type() != unix.S_IFREG || g == Decrypt {
		return false, nil
	}
	id, err := t.keyID(p, d, s, st)
	if err != nil || id == (secret.ID{}) {
		return false, err
	}
	k := t.keysFor(p, name)
	return k.outdated(id) && (g != HandOver || k.foreign(id)), nil
}

// refuses reports whether nothing shows that the entry s of p, of type typ, was made
// through the view, where plain = "refuse" asks for that: a plain file, or a symbolic
// link whose target is not sealed. Sealing it would make it look genuine.
func (t *Tree) refuses(p *inode.Inode, s names.Stored, typ uint32) bool {
	if !t.RefusePlain || s.Kind.Broken() || t.user(p) == "" {
		return false
	}
	switch typ {
	case unix.S_IFREG:
		return !s.Kind.Sealed()
	case unix.S_IFLNK:
		return s.Kind != names.Encrypted && !t.Codec.PlainNames() // N10: else links are always like that
	}
	return false
}

// keyID returns the content-key id of the sealed file s in d, the open p, or the zero id of an
// empty one. What is being written tells it itself.
func (t *Tree) keyID(p *inode.Inode, d *backing.Dir, s names.Stored, st *backing.Stat) (secret.ID, error) {
	n := t.Table.Known(p, st, s)
	if n != nil {
		if c, ok := n.Content().(*content.File); ok {
			if h, ok := c.Header(); ok {
				return secret.ID(h.KeyID), nil
			}
			return secret.ID{}, nil
		}
	}
	if st.Size == 0 {
		return secret.ID{}, nil
	}
	f, err := d.Open(s.Name, unix.O_RDONLY|unix.O_NOATIME)
	if err != nil {
		return secret.ID{}, err
	}
	defer f.Close()
	shape, err := content.Probe(f, st.Size)
	if err != nil && changed(d, s, st) {
		err = ErrBusy
	}
	return secret.ID(shape.Header.KeyID), err
}

// changed reports whether the entry s of d may no longer be in the state st; of one that
// a conversion makes no copy of, whether it is another one.
func changed(d *backing.Dir, s names.Stored, st *backing.Stat) bool {
	now, err := d.Stat(s.Name)
	if err == nil && !hasContent(st) {
		return !now.Same(st)
	}
	return err != nil || !st.Unchanged(&now)
}

// hasContent reports whether a conversion of the entry makes a copy of it: of others only
// the name changes.
func hasContent(st *backing.Stat) bool {
	return st.Type() == unix.S_IFREG || st.Type() == unix.S_IFLNK
}

// findSettled finds the entry p. Of what has content, which is going to be copied, it
// waits for a state that any later change can be told from.
func (t *Tree) findSettled(p *place) (err error) {
	find := func() {
		p.dir.NS.RLock()
		defer p.dir.NS.RUnlock()
		p.s, p.st, err = t.find(p.dir, p.d, p.name)
	}
	if find(); err != nil || !hasContent(&p.st) || p.st.Settled() {
		return err
	}
	time.Sleep(backing.Settle)
	if find(); err == nil && !p.st.Settled() {
		err = ErrBusy
	}
	return err
}

// outdated reports whether content under the key id should be sealed under another
// one: site keys or a retired content key in a user's private file, a user's key in a
// file of the site. What is sealed under a delivery key stays: only the user's identity opens it.
func (k fileKeys) outdated(id [16]byte) bool {
	isSite := id == k.t.Site.Meta.ID || id == k.t.Site.Delivery.ID
	if k.foreign(id) {
		_, err := k.formerKey(id)
		return err == nil // else it stays what it is until the former owner is unlocked
	}
	want, err := k.sealing()
	switch {
	case err != nil || id == want.ID:
		return false
	case want.ID == k.t.Site.Delivery.ID:
		return false // nobody's key is better until the user is enrolled and unlocked
	case want.ID == k.t.Site.Meta.ID:
		return true
	}
	return k.t.Keys.Holds(k.user) && (isSite || k.t.Keys.Retired(k.user, id))
}
