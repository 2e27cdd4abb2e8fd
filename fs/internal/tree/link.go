package tree

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
)

// Link makes newName in q another name of n. Between the trees of two users it is
// unix.EXDEV: mail servers then copy, and the copy gets the right key.
func (t *Tree) Link(n *inode.Inode, q *inode.Inode, newName string) (Node, error) {
	for {
		a, ok := t.Table.Alias(n)
		if !ok {
			return t.linkUnnamed(n, q, newName)
		}
		node, err := t.linkAlias(n, a, q, newName)
		if now, _ := t.Table.Alias(n); !errors.Is(err, unix.ENOENT) || now == a {
			return node, err
		} // renamed meanwhile
	}
}

func (t *Tree) linkAlias(n *inode.Inode, a inode.Alias, q *inode.Inode, newName string) (Node, error) {
	src, dst := place{dir: a.Parent, name: a.Name, n: n}, place{dir: q, name: newName}
	unlock, err := t.lockPlaces(&src, &dst)
	if err != nil {
		return Node{}, err
	}
	defer unlock()
	if err := t.locate(&src, &dst, unix.RENAME_NOREPLACE); err != nil {
		return Node{}, err
	}
	if !t.Table.Same(n, &src.st) {
		return Node{}, unix.ENOENT // replaced since
	}
	if src.st.Nlink >= inode.MaxLinks {
		return Node{}, unix.EMLINK // mail servers then copy
	}
	s, err := t.storedAt(&src, &dst)
	if err != nil {
		return Node{}, err
	}
	if err := t.prepare(q, dst.d, s, newName); err != nil {
		return Node{}, err
	}
	st, err := src.st, src.d.Link(src.s.Name, dst.d, s.Name)
	if err == nil {
		if st, err = dst.d.Stat(s.Name); err != nil {
			_ = dst.d.Unlink(s.Name)
		}
	}
	if err != nil {
		t.notMade(q, dst.d, newName, s)
		return Node{}, err
	}
	t.tellMove(q, newName)
	return t.ref(q, dst.d, newName, s, st), nil
}

// linkUnnamed gives a file that Tmpfile made its first name.
func (t *Tree) linkUnnamed(n *inode.Inode, q *inode.Inode, newName string) (Node, error) {
	born := t.Table.Born(n)
	if born == nil {
		return Node{}, unix.ENOENT // it had a name, and lost it
	}
	if t.Table.Route(born).Apart(t.Table.Route(q)) {
		return Node{}, unix.EXDEV
	}
	s := t.Codec.Create(newName, true, q == t.Table.Root)
	var node Node
	err := t.add(q, &NewEntry{Name: newName}, s, func(d *backing.Dir) error {
		var st backing.Stat
		_, err := n.WithFile(func(f *backing.File, _ inode.Content) (err error) {
			if st, err = f.Stat(); err != nil {
				return err
			}
			if err = f.LinkTo(d, s.Name); err != nil {
				return err
			}
			// What is done cannot be undone: a file may get its first name only once.
			if now, err := f.Stat(); err == nil {
				st = now
			} else {
				st.Nlink = 1
			}
			return nil
		})
		if err != nil {
			return err
		}
		t.tellMove(q, newName)
		node = t.ref(q, d, newName, s, st)
		return nil
	})
	if err == nil {
		t.Table.Named(n)
		n.Unpin()
	}
	return node, err
}
