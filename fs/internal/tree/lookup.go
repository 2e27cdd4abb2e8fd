package tree

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
)

// Lookup finds the entry name of directory p and counts one lookup of the kernel.
// The error is unix.ENOENT where there is none.
func (t *Tree) Lookup(p *inode.Inode, name string) (Node, error) {
	n, err := t.lookup(p, name)
	if err != nil || !n.passing() {
		return n, err
	}
	// With no lock of the parent held: renames lock the two in another order.
	if n.Attr, err = t.Attr(n.Inode); err != nil {
		t.Forget(n.ID, 1)
		return Node{}, err
	}
	return n, nil
}

func (t *Tree) lookup(p *inode.Inode, name string) (Node, error) {
	d, err := t.dirFor(p, name)
	if err != nil {
		return Node{}, err
	}
	defer d.Release()
	p.NS.RLock()
	defer p.NS.RUnlock()
	s, st, err := t.find(p, d, name)
	if err != nil {
		return Node{}, err
	}
	return t.ref(p, d, name, s, st), nil
}

// passing reports whether the modification time in the attributes of n may be one that a
// conversion takes back.
func (n Node) passing() bool { return n.Type == unix.S_IFDIR && n.Converted.Load() }

// dirFor opens directory p for a call on its entry name, checked against N1.
func (t *Tree) dirFor(p *inode.Inode, name string) (*backing.Dir, error) {
	if len(name) > names.MaxView {
		return nil, unix.ENAMETOOLONG
	}
	if names.Check(name) != nil {
		return nil, unix.EINVAL
	}
	return t.dir(p)
}

// ref makes the Node of an entry that was found.
func (t *Tree) ref(p *inode.Inode, d *backing.Dir, name string, s names.Stored, st backing.Stat) Node {
	n := t.Table.Ref(&st, inode.Alias{Parent: p, Name: name, Stored: s})
	return Node{n, t.attrOf(n, st, d, s)}
}

// find looks for the stored entry of view name in d, the open directory p (N8).
func (t *Tree) find(p *inode.Inode, d *backing.Dir, name string) (names.Stored, backing.Stat, error) {
	var found names.Stored
	var st backing.Stat
	err := error(unix.ENOENT)
	try := func(s names.Stored) bool {
		if s.Kind.Broken() && s.Long && t.sideName(d, s) != "" {
			return false // it has a view name, which is not this one
		}
		if (s.Kind == names.Plain || s.Kind == names.PlainNamed) && !t.mixed(p, d) {
			return false
		}
		st, err = d.Stat(s.Name)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENAMETOOLONG) {
			err = unix.ENOENT
			return false
		}
		found = s
		return true
	}
	root := p == t.Table.Root
	t.Codec.Candidates(name, root, try)
	if err == unix.ENOENT && t.Shared {
		// Another process may have encrypted it since it was looked for under that name.
		t.Codec.Candidates(name, root, func(s names.Stored) bool { return try(s) || s.Kind == names.Encrypted })
	}
	return found, st, err
}

// mixed reports whether d, the open directory p, may have plain or plain-named
// entries. Most directories have none, and know it: that saves two looks at the store
// for each name that is absent. The caller holds p.NS.
func (t *Tree) mixed(p *inode.Inode, d *backing.Dir) bool {
	if t.Shared {
		return true // another host may make one at any time
	}
	if p.Mixed.Load() == inode.MayBeMixed {
		found := int32(inode.IsMixed)
		if pure, err := onlyEncrypted(d, p == t.Table.Root); err == nil && pure {
			found = inode.NotMixed
		}
		p.Mixed.CompareAndSwap(inode.MayBeMixed, found)
	}
	return p.Mixed.Load() != inode.NotMixed
}

func onlyEncrypted(d *backing.Dir, root bool) (bool, error) {
	l, err := listOf(d)
	if err != nil {
		return false, err
	}
	defer l.Close()
	for {
		e, ok, err := l.Peek()
		if err != nil || !ok {
			return err == nil, err
		}
		if e.Name != "." && e.Name != ".." && !names.LooksEncrypted(e.Name, root) {
			return false, nil
		}
		l.Skip()
	}
}

// sideName returns the view name of a long entry, "" if its side entry is damaged
// or missing.
func (t *Tree) sideName(d *backing.Dir, s names.Stored) string {
	content, err := d.ReadSmall(s.Side(), names.MaxSide)
	if err != nil {
		return ""
	}
	name, err := t.Codec.OpenSide(s, content)
	if err != nil {
		return ""
	}
	return name
}

// viewName returns the name under which the stored entry v of d is shown, "" for what
// is not in the view.
func (t *Tree) viewName(d *backing.Dir, v *view) string {
	if v.stored.Long && v.stored.Kind != names.Hidden && v.name == "" {
		if v.name = t.sideName(d, v.stored); v.name == "" {
			if _, err := d.Stat(v.stored.Name); errors.Is(err, unix.ENOENT) {
				return "" // removed since it was listed, and its side entry after it (N5)
			}
			v.stored.Kind, v.name = names.Damaged, v.stored.Name
		}
	}
	return v.name
}

// shadowed reports whether another entry counts for the view name of the plain or
// plain-named entry s (N8).
func (t *Tree) shadowed(p *inode.Inode, d *backing.Dir, name string, s names.Stored) bool {
	if s.Kind == names.Encrypted || s.Kind.Broken() {
		return false
	}
	first, _, err := t.find(p, d, name)
	return err == nil && first.Name != s.Name
}
