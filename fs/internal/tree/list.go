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
	begun bool                    // it counts among the Listers of dir
	given bool                    // an entry was listed since the last Seek
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
func (l *Listing) Close() {
	if l.begun {
		l.dir.StaleList.Store(true)
	}
	l.end()
	l.list.Close()
}

// Seek continues at offset off: 0, or the Next of an entry. From the first Seek on, until
// Peek finds nothing right after a Seek, or Close, entries keep their stored names, and with
// them their places in the listing: one whose name is converted meanwhile would be listed
// twice, or not at all, and a message that is not listed counts as expunged.
func (l *Listing) Seek(off uint64) error {
	l.given = false
	if !l.begun {
		l.dir.Listers.Begin()
		l.begun = true
		l.dir.NS.RLock()
		//lint:ignore SA2001 whoever has not seen that it has begun is at an end
		l.dir.NS.RUnlock()
	}
	return l.list.Seek(off)
}

func (l *Listing) end() {
	if l.begun {
		l.dir.Listers.End()
		l.begun = false
	}
}

// Peek returns the next entry of the view without moving on; ok is false at the end.
func (l *Listing) Peek() (e Entry, ok bool, err error) {
	for {
		low, ok, err := l.list.Peek()
		if err != nil || !ok {
			if !l.given {
				l.end()
			}
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
func (l *Listing) Skip() {
	l.given = true
	l.list.Skip()
}

// listStep is how many entries List lists at once: so long nobody changes the directory.
const listStep = 256

// List lists directory n, without "." and "..".
func (t *Tree) List(n *inode.Inode) (all []Entry, err error) {
	l, err := t.OpenDir(n)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if err := l.Seek(0); err != nil {
		return nil, err
	}
	for more := true; more && err == nil; {
		all, more, err = l.some(all)
	}
	l.end()
	return all, err
}

// some adds the next entries to all; more is false at the end.
func (l *Listing) some(all []Entry) (_ []Entry, more bool, err error) {
	l.dir.NS.RLock()
	defer l.dir.NS.RUnlock()
	for range listStep {
		e, ok, err := l.Peek()
		if err != nil || !ok {
			return all, false, err
		}
		if e.Name != "." && e.Name != ".." {
			e.view = nil
			all = append(all, e)
		}
		l.Skip()
	}
	return all, true, nil
}

// Node returns the inode and attributes of an entry that Peek returned, counting
// one lookup of the kernel; ok is false for one that the kernel knows already, that
// has gone, or that is "." or "..", and for a directory with conversions (see Lookup). It
// must come between Look and Done.
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
	n := t.ref(l.dir, d, e.Name, v.stored, v.st)
	if n.passing() {
		t.Forget(n.ID, 1)
		return Node{}, false
	}
	return n, true
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
