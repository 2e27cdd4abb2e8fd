package tree

import (
	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
)

// Listing is an open directory of the view. Its offsets are those of the stored
// directory, so they stay valid while entries come and go. It is not safe for
// concurrent use.
type Listing struct {
	t     *Tree
	dir   *inode.Inode
	list  *backing.Lister
	views [backing.Batches][]view // of the batches of list
}

// Entry is one entry of a listing.
type Entry struct {
	Name string
	Ino  uint64 // of the view
	Type uint32 // S_IFMT bits
	Next uint64 // offset of the entry after it

	low  backing.Key
	view *view // valid until the next Peek
}

// OpenDir opens directory n for listing.
func (t *Tree) OpenDir(n *inode.Inode) (*Listing, error) {
	d, err := t.dir(n)
	if err != nil {
		return nil, err
	}
	defer d.Release()
	l, err := listOf(d)
	if err != nil {
		return nil, err
	}
	out := &Listing{t: t, dir: n, list: l}
	l.Prepare(out.open)
	return out, nil
}

// Close ends the listing.
func (l *Listing) Close() { l.list.Close() }

// Seek continues at offset off: 0, or the Next of an entry.
func (l *Listing) Seek(off uint64) error { return l.list.Seek(off) }

// Peek returns the next entry of the view without moving on; ok is false at the end.
func (l *Listing) Peek() (e Entry, ok bool, err error) {
	for {
		low, ok, err := l.list.Peek()
		if err != nil || !ok {
			return Entry{}, false, err
		}
		key := backing.Key{Dev: l.t.Table.Device(), Ino: low.Ino}
		e := Entry{Name: low.Name, Ino: low.Ino, Type: low.Type, Next: low.Next, low: key}
		switch low.Name {
		case ".":
			e.Ino = l.dir.Ino
			return e, true, nil
		case "..":
			if a, ok := l.t.Table.Alias(l.dir); ok {
				e.Ino = a.Parent.Ino
			}
			return e, true, nil
		}
		d := l.list.Dir()
		e.view = l.view()
		if e.Name = l.t.viewName(d, e.view); e.Name == "" || l.t.shadowed(l.dir, d, e.Name, e.view.stored) {
			l.list.Skip()
			continue
		}
		e.Ino = l.t.Table.Ino(key, l.dir, e.view.stored)
		if e.Type == 0 { // a filesystem that does not say
			if st, err := d.Stat(low.Name); err == nil {
				e.Type = st.Type()
			}
		}
		return e, true, nil
	}
}

// Skip moves behind the entry that Peek returned.
func (l *Listing) Skip() { l.list.Skip() }

// Node returns the inode and attributes of an entry that Peek returned, counting
// one lookup of the kernel; ok is false for one that the kernel knows already, that
// has gone, or that is "." or "..". It must come between Look and Done.
func (l *Listing) Node(e Entry) (Node, bool) {
	t, d, v := l.t, l.list.Dir(), e.view
	if v == nil || t.Table.KernelHolds(e.low, l.dir, v.stored) {
		return Node{}, false
	}
	if !v.looked {
		v.st, v.err = d.Stat(v.stored.Name)
	}
	if v.err != nil {
		return Node{}, false
	}
	return t.ref(l.dir, d, e.Name, v.stored, v.st), true
}

// SyncDir makes the entries of directory n durable.
func (t *Tree) SyncDir(n *inode.Inode) error {
	d, err := t.dir(n)
	if err != nil {
		return err
	}
	defer d.Release()
	return d.Sync()
}

// Statfs describes the filesystem below.
func (t *Tree) Statfs() (unix.Statfs_t, error) { return t.Store.Statfs() }
