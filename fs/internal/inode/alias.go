package inode

import "golang.org/x/sys/unix"

// aliasLocked records the name a of n; nlink is the count of links that n has now.
func (t *Table) aliasLocked(n *Inode, a Alias, nlink uint32) {
	for i := range n.aliases {
		if n.aliases[i].Parent == a.Parent && n.aliases[i].Name == a.Name {
			n.aliases[i].Stored = a.Stored
			return
		}
	}
	if nlink <= 1 || n.Type == unix.S_IFDIR {
		t.dropAliasesLocked(n)
	} else if len(n.aliases) == MaxLinks {
		t.dropAliasLocked(n, 0)
	}
	a.Parent.children++
	n.aliases = append(n.aliases, a)
}

func (t *Table) dropAliasesLocked(n *Inode) {
	for len(n.aliases) > 0 {
		t.dropAliasLocked(n, len(n.aliases)-1)
	}
}

func (t *Table) dropAliasLocked(n *Inode, i int) {
	p := n.aliases[i].Parent
	n.aliases = append(n.aliases[:i], n.aliases[i+1:]...)
	p.children--
	t.reapLocked(p)
}

// AddAlias records another name of n (link(2), rename(2)).
func (t *Table) AddAlias(n *Inode, a Alias) {
	t.mu.Lock()
	defer t.unlock()
	if t.goneLocked(n) {
		return
	}
	t.aliasLocked(n, a, 2)
	if !n.detached {
		t.placeLocked(n, a)
	}
}

// DropAlias forgets the name of n in parent; last says that it was the only link,
// so that the lower inode number may be used again.
func (t *Table) DropAlias(n *Inode, parent *Inode, name string, last bool) {
	t.mu.Lock()
	defer t.unlock()
	for i := range n.aliases {
		if n.aliases[i].Parent == parent && n.aliases[i].Name == name {
			t.dropAliasLocked(n, i)
			break
		}
	}
	if last {
		t.detachLocked(n)
		t.reapLocked(n)
	}
}

// Aliases returns the names of n that are known, newest last.
func (t *Table) Aliases(n *Inode) []Alias {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Alias(nil), n.aliases...)
}

// Alias returns the newest name of n; ok is false when it has none.
func (t *Table) Alias(n *Inode) (a Alias, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(n.aliases) == 0 {
		return Alias{}, false
	}
	return n.aliases[len(n.aliases)-1], true
}
