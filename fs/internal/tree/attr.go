package tree

import (
	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/content"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
)

// Attr is what the view shows of an inode: the lower attributes, with Size the
// plaintext size and Ino the number of the view.
type Attr struct{ backing.Stat }

// Attr returns the attributes of n.
func (t *Tree) Attr(n *inode.Inode) (Attr, error) {
	if n.Type == unix.S_IFDIR {
		d, err := t.dir(n)
		if err != nil {
			return Attr{}, err
		}
		defer d.Release()
		st, err := d.StatSelf()
		if err == nil && n.Converted.Load() { // this may be what a conversion is about to take back
			n.NS.RLock()
			st, err = d.StatSelf()
			n.NS.RUnlock()
		}
		return t.shown(n, st, st.Size), err
	}
	var a Attr
	open, err := n.WithFile(func(f *backing.File, c inode.Content) error {
		st, err := f.Stat()
		if err != nil {
			return err
		}
		size := st.Size
		switch sealed, _ := t.Table.Sealed(n); {
		case c != nil:
			if size, err = c.Length(); err != nil {
				return err
			}
		case sealed && st.Type() == unix.S_IFREG && size > 0: // removed while locked
			if shape, err := content.Probe(f, st.Size); err == nil {
				size = shape.Plain
			}
		}
		a = t.shown(n, st, size)
		return nil
	})
	if open {
		return a, err
	}
	err = t.at(n, func(d *backing.Dir, al inode.Alias) error {
		st, err := d.Stat(al.Stored.Name)
		if err != nil {
			return err
		}
		if !t.Table.Same(n, &st) {
			return errStale
		}
		a = t.attrOf(n, st, d, al.Stored)
		return nil
	})
	return a, err
}

// attrOf makes the attributes of n from the state st of its entry s in d. It never
// fails: a file whose size cannot be told shows its stored size, so that a folder
// with a damaged file can be listed.
func (t *Tree) attrOf(n *inode.Inode, st backing.Stat, d *backing.Dir, s names.Stored) Attr {
	switch {
	case st.Type() == unix.S_IFLNK:
		return t.shown(n, st, names.TargetSize(s.Kind, st.Size))
	case st.Type() != unix.S_IFREG || !s.Kind.Sealed() || st.Size == 0:
		return t.shown(n, st, st.Size)
	}
	size, err := t.length(n, &st, d, s)
	if err != nil && changed(d, s, &st) { // it is being written
		if now, again := d.Stat(s.Name); again == nil {
			st = now
		}
		size, err = t.length(n, &st, d, s)
	}
	if err != nil {
		_ = t.Alert(n, err)
		size = st.Size
	}
	return t.shown(n, st, size)
}

// length tells the plaintext size of the sealed file s in d. What is open knows best.
func (t *Tree) length(n *inode.Inode, st *backing.Stat, d *backing.Dir, s names.Stored) (int64, error) {
	if c := n.Content(); c != nil {
		return c.Length()
	}
	return t.plainSize(n, st, d, s)
}

// plainSize tells the plaintext size of the sealed file s in d, which nobody has
// open: by arithmetic (C7), else from header and last block (C9).
func (t *Tree) plainSize(n *inode.Inode, st *backing.Stat, d *backing.Dir, s names.Stored) (int64, error) {
	if !format.Aligned(st.Size) {
		return format.PlainSizeFinal(st.Size)
	}
	if size, ok := n.CachedSize(st); ok {
		return size, nil
	}
	f, err := d.Open(s.Name, unix.O_RDONLY|unix.O_NOATIME)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	shape, err := content.Probe(f, st.Size)
	if err == nil {
		n.CacheSize(st, shape.Plain)
	}
	return shape.Plain, err
}

func (t *Tree) shown(n *inode.Inode, st backing.Stat, size int64) Attr {
	st.Ino, st.Size = n.Ino, size
	return Attr{st}
}

// Change is a set of attributes to set; nil fields stay.
type Change struct {
	Size  *int64
	Open  bool // Size is set through an open handle
	Mode  *uint32
	UID   *uint32
	GID   *uint32
	Times *backing.Times
	// KillPriv clears the set-id bits, as a write by an unprivileged process does.
	KillPriv bool
}

// SetAttr changes attributes of n and returns the new ones. The size of a file
// that is not open is set by opening it, which fails while its user is locked.
func (t *Tree) SetAttr(n *inode.Inode, c Change) (Attr, error) {
	if c.Size != nil {
		if err := t.truncate(n, *c.Size, c.Open); err != nil {
			return Attr{}, t.Alert(n, err)
		}
	}
	if c.KillPriv && c.Mode == nil {
		t.killPriv(n, &c)
	}
	if err := t.change(n, c); err != nil {
		return Attr{}, err
	}
	return t.Attr(n)
}

func (t *Tree) truncate(n *inode.Inode, size int64, open bool) error {
	if n.Type != unix.S_IFREG {
		return unix.EINVAL
	}
	if c := n.Content(); open && c != nil {
		return c.Truncate(size)
	}
	c, err := t.Open(n)
	if err != nil {
		return err
	}
	defer t.Release(n)
	return c.Truncate(size)
}

// killPriv adds the mode without set-id bits to c if n has any.
func (t *Tree) killPriv(n *inode.Inode, c *Change) {
	a, err := t.Attr(n)
	if err != nil || n.Type != unix.S_IFREG {
		return
	}
	mode := a.Mode &^ unix.S_ISUID
	if a.Mode&unix.S_IXGRP != 0 {
		mode &^= unix.S_ISGID
	}
	if mode != a.Mode {
		c.Mode = &mode
	}
}

// ClearSetID clears the set-id bits of n, as a write by an unprivileged process does.
func (t *Tree) ClearSetID(n *inode.Inode) error {
	var c Change
	t.killPriv(n, &c)
	return t.change(n, c)
}

// setter sets attributes of one entry, by descriptor or by name.
type setter struct {
	chown  func(backing.Owner) error
	chmod  func(uint32) error
	utimes func(backing.Times) error
}

func (c Change) apply(s setter) error {
	if c.UID != nil || c.GID != nil {
		const keep = ^uint32(0)
		o := backing.Owner{UID: keep, GID: keep}
		if c.UID != nil {
			o.UID = *c.UID
		}
		if c.GID != nil {
			o.GID = *c.GID
		}
		if err := s.chown(o); err != nil {
			return err
		}
	}
	if c.Mode != nil {
		if err := s.chmod(*c.Mode); err != nil {
			return err
		}
	}
	if c.Times != nil {
		return s.utimes(*c.Times)
	}
	return nil
}

func (t *Tree) change(n *inode.Inode, c Change) error {
	if c.UID == nil && c.GID == nil && c.Mode == nil && c.Times == nil {
		return nil
	}
	if n.Type == unix.S_IFDIR {
		d, err := t.dir(n)
		if err != nil {
			return err
		}
		defer d.Release()
		n.NS.Lock() // a conversion would set back the times that it has seen
		defer n.NS.Unlock()
		return c.apply(byName(d, "."))
	}
	open, err := n.WithFile(func(f *backing.File, _ inode.Content) error {
		return c.apply(setter{f.Chown, f.Chmod, f.Utimes})
	})
	if open {
		return err
	}
	return t.at(n, func(d *backing.Dir, a inode.Alias) error { return c.apply(byName(d, a.Stored.Name)) })
}

func byName(d *backing.Dir, name string) setter {
	return setter{
		chown:  func(o backing.Owner) error { return d.Chown(name, o) },
		chmod:  func(m uint32) error { return d.Chmod(name, m) },
		utimes: func(ts backing.Times) error { return d.Utimes(name, ts) },
	}
}
