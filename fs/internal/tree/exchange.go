package tree

import (
	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
)

// exchange swaps two entries whose contents are of the same kind.
func (t *Tree) exchange(a, b *place) error {
	toB, err := t.storedAt(a, b)
	if err != nil {
		return err
	}
	toA, err := t.storedAt(b, a)
	if err != nil {
		return err
	}
	if toB.Name != b.s.Name || toA.Name != a.s.Name {
		return unix.EINVAL // one is sealed and the other plain
	}
	if err := a.d.Rename(a.s.Name, b.d, b.s.Name, unix.RENAME_EXCHANGE); err != nil {
		return err
	}
	t.tellMove(a.dir, a.name)
	t.tellMove(b.dir, b.name)
	a.n, b.n = t.Table.Known(a.dir, &a.st, a.s), t.Table.Known(b.dir, &b.st, b.s)
	if a.n != nil {
		t.Table.DropAlias(a.n, a.dir, a.name, false)
	}
	if b.n != nil {
		t.Table.DropAlias(b.n, b.dir, b.name, false)
	}
	for _, m := range []struct {
		n  *inode.Inode
		to *place
	}{{a.n, b}, {b.n, a}} {
		if m.n != nil {
			t.Table.AddAlias(m.n, inode.Alias{Parent: m.to.dir, Name: m.to.name, Stored: m.to.s})
		}
	}
	if a.st.Type() == unix.S_IFDIR || b.st.Type() == unix.S_IFDIR {
		t.Table.Moved()
	}
	return nil
}
