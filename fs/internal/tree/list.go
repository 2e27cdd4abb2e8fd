package tree

import (
	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
)

// Listing is an open directory of the view. Its offsets are those of the stored
// directory, so they stay valid while entries come and go. It is not safe for
// concurrent use.
type Listing struct {
	t    *Tree
	dir  *inode.Inode
	list *backing.Lister
}

// Entry is one entry of a listing.
type Entry struct {
	Name string
	Ino  uint64 // of the view
	Type uint32 // S_IFMT bits
	Next uint64 // offset of the entry after it

	stored names.Stored
	low    backing.Key
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
	return &Listing{t, n, l}, nil
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
		e := Entry{Name: low.Name, Ino: l.t.Table.Ino(key), Type: low.Type, Next: low.Next, low: key}
		if low.Name == "." || low.Name == ".." {
			return e, true, nil
		}
		var shown bool
		d := l.list.Dir()
		e.Name, e.stored, shown = l.t.viewName(l.dir, d, low.Name)
		if !shown || l.t.shadowed(l.dir, d, e.Name, e.stored) {
			l.list.Skip()
			continue
		}
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
// has gone, or that is "." or "..".
func (l *Listing) Node(e Entry) (Node, bool) {
	t, d := l.t, l.list.Dir()
	if e.Name == "." || e.Name == ".." || t.Table.KernelHolds(e.low, l.dir, e.stored.Name) {
		return Node{}, false
	}
	l.dir.NS.RLock()
	defer l.dir.NS.RUnlock()
	st, err := d.Stat(e.stored.Name)
	if err != nil {
		return Node{}, false
	}
	return t.ref(l.dir, d, e.Name, e.stored, st), true
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
