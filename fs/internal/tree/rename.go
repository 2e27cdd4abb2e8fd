package tree

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
)

// place is an entry, or where one is going to be.
type place struct {
	dir  *inode.Inode
	d    *backing.Dir
	name string
	s    names.Stored
	st   backing.Stat
	n    *inode.Inode // nil if the table does not hold it
	none bool         // there is no entry
	// unseen says that none was taken for granted: the step that puts an entry there
	// finds out. In most renames there is none, and the kernel has just asked for it.
	unseen bool
}

// Rename moves the entry name of p to newName of q, with the flags of renameat2(2)
// but RENAME_WHITEOUT. Moving between the trees of two users is unix.EXDEV: the
// content belongs to the user's key.
func (t *Tree) Rename(p *inode.Inode, name string, q *inode.Inode, newName string, flags uint32) error {
	if flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return unix.EINVAL
	}
	src, dst := place{dir: p, name: name}, place{dir: q, name: newName}
	if err := t.rename(&src, &dst, flags); err != nil {
		return err
	}
	t.follow(&src, &dst)
	return nil
}

func (t *Tree) rename(src, dst *place, flags uint32) error {
	unlock, err := t.lockPlaces(src, dst)
	if err != nil {
		return err
	}
	defer unlock()
	if err := t.locate(src, dst, flags); err != nil {
		return err
	}
	err = t.relocate(src, dst, flags)
	if dst.unseen && (errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EINVAL)) {
		if err = t.lookAt(dst, flags); err == nil {
			err = t.relocate(src, dst, flags)
		}
	}
	return err
}

// relocate makes src the entry dst, or swaps the two.
func (t *Tree) relocate(src, dst *place, flags uint32) error {
	if !dst.none && src.st.Same(&dst.st) {
		return nil // two names of one file: rename(2) does nothing
	}
	if flags&unix.RENAME_EXCHANGE != 0 {
		return t.exchange(src, dst)
	}
	m, err := t.newOwner(src, dst)
	if err != nil {
		return err
	}
	if err := t.move(src, dst); err != nil {
		return err
	}
	t.headed(dst, m)
	return nil
}

// lockPlaces opens the directories of a and b and locks their namespaces in order.
func (t *Tree) lockPlaces(a, b *place) (unlock func(), err error) {
	if a.d, err = t.dirFor(a.dir, a.name); err != nil {
		return nil, err
	}
	if b.d, err = t.dirFor(b.dir, b.name); err != nil {
		a.d.Release()
		return nil, err
	}
	first, second := a.dir, b.dir
	if second.ID < first.ID {
		first, second = second, first
	}
	first.NS.Lock()
	if second != first {
		second.NS.Lock()
	}
	return func() {
		if second != first {
			second.NS.Unlock()
		}
		first.NS.Unlock()
		a.d.Release()
		b.d.Release()
	}, nil
}

// locate finds both entries and refuses what must not be moved.
func (t *Tree) locate(src, dst *place, flags uint32) (err error) {
	if src.s, src.st, err = t.find(src.dir, src.d, src.name); err != nil {
		return err
	}
	if s, err := t.storedAt(src, dst); err == nil && flags&unix.RENAME_EXCHANGE == 0 && t.only(dst, s) {
		dst.none, dst.unseen = true, true
	} else if err := t.lookAt(dst, flags); err != nil {
		return err
	}
	if src.s.Kind.Broken() || dst.s.Kind.Broken() && flags&unix.RENAME_EXCHANGE != 0 {
		return errBroken
	}
	if t.crosses(src, dst) || flags&unix.RENAME_EXCHANGE != 0 && t.crosses(dst, src) {
		return unix.EXDEV
	}
	return nil
}

// lookAt finds out what dst is.
func (t *Tree) lookAt(dst *place, flags uint32) (err error) {
	dst.unseen = false
	dst.s, dst.st, err = t.find(dst.dir, dst.d, dst.name)
	dst.none = errors.Is(err, unix.ENOENT)
	switch {
	case dst.none && flags&unix.RENAME_EXCHANGE == 0:
		return nil
	case err == nil && flags&unix.RENAME_NOREPLACE != 0:
		return unix.EEXIST
	}
	return err
}

// only reports whether the entry dst cannot be stored under another name than s.
func (t *Tree) only(dst *place, s names.Stored) bool {
	return s.Kind == names.Encrypted && t.Codec.CanBePlain(dst.name, dst.dir == t.Table.Root) && !t.mixed(dst.dir, dst.d)
}

// crosses reports whether moving src to dst takes content out of a user's tree.
func (t *Tree) crosses(src, dst *place) bool {
	from, to := t.Table.Route(src.dir), t.Table.Route(dst.dir)
	if src.st.Type() != unix.S_IFDIR {
		return from.Apart(to)
	}
	from, to = from.Child(src.name), to.Child(dst.name)
	return from.Apart(to) || from.Above() || to.Above()
}

// storedAt returns the stored name that the entry src gets under its new name. What
// is sealed stays sealed and what is plain stays plain, because the name tells it.
func (t *Tree) storedAt(src, dst *place) (names.Stored, error) {
	root := dst.dir == t.Table.Root
	switch {
	case src.st.Type() == unix.S_IFDIR:
		return t.Codec.Create(dst.name, false, root), nil
	case src.s.Kind == names.Encrypted:
		return t.Codec.Encrypt(dst.name), nil
	case src.s.Kind == names.PlainNamed && src.st.Type() == unix.S_IFREG:
		return t.Codec.Create(dst.name, true, root), nil
	case src.s.Kind == names.Plain && t.Codec.CanBePlain(dst.name, root):
		return names.Stored{Name: dst.name}, nil
	}
	return names.Stored{}, unix.EINVAL
}

// move renames src to dst, replacing what is there.
func (t *Tree) move(src, dst *place) error {
	s, err := t.storedAt(src, dst)
	if err != nil {
		return err
	}
	if err := t.replaceable(src, dst); err != nil {
		return err
	}
	if !dst.none {
		if dst.n, err = t.pin(dst.dir, dst.d, dst.s, &dst.st); err != nil {
			return err
		}
	}
	undo := func(err error) error {
		if dst.n != nil {
			dst.n.Unpin()
		}
		return err
	}
	if err := t.prepare(dst.dir, dst.d, s, dst.name); err != nil {
		return undo(err)
	}
	if !dst.none && dst.st.Type() == unix.S_IFDIR && dst.s.Name != s.Name {
		if err := t.rmdir(dst.d, dst.s); err != nil {
			return undo(err)
		}
	}
	if err := t.renameStored(src, dst, s); err != nil {
		return undo(err)
	}
	src.n = t.Table.Known(src.dir, &src.st, src.s)
	if !dst.none {
		t.replaced(dst, s)
	}
	if src.s.Long && (src.s.Name != s.Name || src.dir != dst.dir) {
		_ = src.d.Unlink(src.s.Side())
	}
	t.removeShadowed(src.dir, src.d, src.name, src.s)
	t.moved(src, dst, s)
	t.tellMove(dst.dir, dst.name)
	return nil
}

// renameStored is the one step that counts. A directory that only holds orphans of
// side entries gives way.
func (t *Tree) renameStored(src, dst *place, s names.Stored) error {
	if dst.unseen {
		return src.d.Rename(src.s.Name, dst.d, s.Name, unix.RENAME_NOREPLACE)
	}
	err := src.d.Rename(src.s.Name, dst.d, s.Name, 0)
	if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) || dst.none {
		return err
	}
	if rerr := t.rmdir(dst.d, dst.s); rerr != nil {
		return err
	}
	return src.d.Rename(src.s.Name, dst.d, s.Name, 0)
}

// replaceable reports whether rename(2) may put src in the place of dst.
func (t *Tree) replaceable(src, dst *place) error {
	if dst.none {
		return nil
	}
	srcDir, dstDir := src.st.Type() == unix.S_IFDIR, dst.st.Type() == unix.S_IFDIR
	switch {
	case srcDir && !dstDir:
		return unix.ENOTDIR
	case !srcDir && dstDir:
		return unix.EISDIR
	}
	return nil
}

// replaced updates what is known of the entry dst after s took its place.
func (t *Tree) replaced(dst *place, s names.Stored) {
	var err error
	if dst.s.Name != s.Name && dst.st.Type() != unix.S_IFDIR {
		if err = dst.d.Unlink(dst.s.Name); err != nil {
			t.Log.Warn("cannot remove a replaced entry", "store", dst.s.Name, "error", err)
		}
	}
	if dst.s.Long && dst.s.Name != s.Name && err == nil { // after the entry that it names (N5)
		_ = dst.d.Unlink(dst.s.Side())
	}
	if dst.n != nil {
		t.Table.DropAlias(dst.n, dst.dir, dst.name, dst.st.Nlink <= 1 || dst.st.Type() == unix.S_IFDIR)
	}
}

// moved gives the inode of src its new name.
func (t *Tree) moved(src, dst *place, s names.Stored) {
	if src.n == nil {
		return
	}
	t.Table.AddAlias(src.n, inode.Alias{Parent: dst.dir, Name: dst.name, Stored: s})
	t.Table.DropAlias(src.n, src.dir, src.name, false)
	if src.st.Type() == unix.S_IFDIR {
		t.Table.Moved()
	}
}
