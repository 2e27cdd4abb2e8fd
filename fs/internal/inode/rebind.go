package inode

import (
	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
)

// RefUnnamed makes the inode of a new file with state st, made in directory born,
// that has no name, and counts one lookup of the kernel. Its content is encrypted.
func (t *Table) RefUnnamed(st *backing.Stat, born *Inode) *Inode {
	t.mu.Lock()
	defer t.unlock()
	s := names.Stored{Kind: names.Encrypted}
	_ = t.findLocked(st, s, born) // what had this number before is gone
	n := t.addLocked(st, s, born)
	n.lookups++
	n.born = born
	born.children++
	return n
}

// Born returns the directory in which n was made, if n never had a name, or nil.
func (t *Table) Born(n *Inode) *Inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	return n.born
}

// Named says that n has a name now.
func (t *Table) Named(n *Inode) {
	t.mu.Lock()
	defer t.unlock()
	t.unbornLocked(n)
}

func (t *Table) unbornLocked(n *Inode) {
	if p := n.born; p != nil {
		n.born = nil
		p.children--
		t.reapLocked(p)
	}
}

// Rebind makes n the lower inode with state st under the name a, which replaced the
// one it was: a conversion. n keeps its node id and view number. Of an inode that has left
// the table nothing is kept.
func (t *Table) Rebind(n *Inode, st *backing.Stat, a Alias) {
	t.mu.Lock()
	defer t.unlock()
	if t.goneLocked(n) {
		return
	}
	if !n.id.Same(st) && !n.moved {
		n.moved = true
		t.inos[n.Ino]++ // a new file may get the old lower number
	}
	n.id, n.sealed = *st, a.Stored.Kind.Sealed()
	t.placeLocked(n, a)
	for i := range n.aliases {
		if n.aliases[i].Parent == a.Parent && n.aliases[i].Name == a.Name {
			n.aliases[i].Stored = a.Stored
		}
	}
}
