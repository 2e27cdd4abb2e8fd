package inode

import (
	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// key is how the table finds an inode: by the identity of the lower one, and of a
// sealed one also by the user in whose tree its name is. The view links nothing between
// users; whoever writes to the store can, and must not reach with a name in his tree
// what is open under a name in another one's (C12).
type key struct {
	backing.Key
	owner account.User
}

func (t *Table) keyLocked(low backing.Key, s names.Stored, parent *Inode) key {
	if !s.Kind.Sealed() {
		return key{Key: low}
	}
	return key{low, t.routeLocked(parent).User()}
}

// placeLocked has n found as what its name a says.
func (t *Table) placeLocked(n *Inode, a Alias) {
	k := t.keyLocked(n.id.Key(), a.Stored, a.Parent)
	other := t.byKey[k]
	if other == n {
		return
	}
	if other != nil {
		t.detachLocked(other)
	}
	if !n.detached {
		delete(t.byKey, n.key)
	}
	n.key, n.detached = k, false
	t.byKey[k] = n
}

// handOverLocked has the entries of directory n found under its new owner.
func (t *Table) handOverLocked(n *Inode) {
	for _, m := range t.byID {
		if len(m.aliases) == 0 || m.detached {
			continue
		}
		if a := m.aliases[len(m.aliases)-1]; a.Parent == n {
			t.placeLocked(m, a)
		}
	}
}
