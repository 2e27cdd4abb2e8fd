package tree

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/content"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
)

// NewEntry says what a new entry is to be.
type NewEntry struct {
	Name  string
	Mode  uint32 // type and permission bits, the caller's umask applied
	Owner backing.Owner
}

// Create makes the regular file w.Name in directory p, which must not exist, and
// opens it: the handle is given back by Release.
func (t *Tree) Create(p *inode.Inode, w NewEntry) (Node, error) {
	keys := t.keysFor(p, w.Name)
	s := t.Codec.Create(w.Name, true, p == t.Table.Root)
	if keys.plaintext() {
		if plain := (names.Stored{Name: w.Name}); t.Codec.CanBePlain(w.Name, p == t.Table.Root) {
			s = plain
		}
	}
	var node Node
	err := t.add(p, &w, s, func(d *backing.Dir) error {
		f, err := d.Create(s.Name, w.Mode, w.Owner)
		if err != nil {
			return err
		}
		c, err := contentIn(f, 0, s, keys)
		var st backing.Stat
		if err == nil {
			st, err = f.Stat()
		}
		if err != nil {
			_ = f.Close()
			_ = d.Unlink(s.Name)
			return err
		}
		a := inode.Alias{Parent: p, Name: w.Name, Stored: s}
		n := t.Table.Ref(&st, a)
		n.Adopt(f, c)
		t.noteOpened(n)
		node = Node{n, t.shown(n, st, 0)}
		return nil
	})
	return node, err
}

// Tmpfile makes a regular file in directory p that has no name, and opens it
// (O_TMPFILE, open(2)). Link can give it one.
func (t *Tree) Tmpfile(p *inode.Inode, w NewEntry) (Node, error) {
	d, err := t.dir(p)
	if err != nil {
		return Node{}, err
	}
	defer d.Release()
	if err := inheritGroup(d, &w); err != nil {
		return Node{}, err
	}
	f, err := d.Tmpfile(w.Mode, w.Owner)
	if err != nil {
		return Node{}, err
	}
	c, err := content.Open(f, 0, t.keysFor(p, ""))
	if err != nil {
		_ = f.Close()
		return Node{}, err
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return Node{}, err
	}
	n := t.Table.RefUnnamed(&st, p)
	n.AdoptUnnamed(f, c)
	return Node{n, t.shown(n, st, 0)}, nil
}

// contentIn returns the content of the open file f of stored size stored, whose entry is s.
func contentIn(f *backing.File, stored int64, s names.Stored, keys fileKeys) (inode.Content, error) {
	if s.Kind.Sealed() {
		return content.Open(f, stored, keys)
	}
	return content.NewPlain(f, func() (int64, error) {
		st, err := f.Stat()
		return st.Size, err
	}), nil
}

// add makes the stored entry s for w in p by calling mk, with what has to be there
// before (N5) and the group of a set-group-id directory. An mk that fails undoes what
// it has done.
func (t *Tree) add(p *inode.Inode, w *NewEntry, s names.Stored, mk func(*backing.Dir) error) error {
	d, err := t.dirFor(p, w.Name)
	if err != nil {
		return err
	}
	defer d.Release()
	if err := inheritGroup(d, w); err != nil {
		return err
	}
	p.NS.Lock()
	defer p.NS.Unlock()
	if err := t.prepare(p, d, s, w.Name); err != nil {
		return err
	}
	err = mk(d)
	if err != nil {
		t.notMade(p, d, w.Name, s)
	}
	return err
}

// notMade cleans up after the entry s for name could not be made in d, the open p: it
// removes the side entry if the entry is not there, and has the kernel look again, as
// undoing may have failed, too.
func (t *Tree) notMade(p *inode.Inode, d *backing.Dir, name string, s names.Stored) {
	if t.DropEntry != nil {
		go t.DropEntry(p.ID, name) // apart: the kernel holds the directory
	}
	if !s.Long {
		return
	}
	if _, err := d.Stat(s.Name); errors.Is(err, unix.ENOENT) {
		_ = d.Unlink(s.Side())
	}
}

// prepare does what has to be done before the stored entry s for name appears in d,
// the open directory p: the side entry of a long name is made durable (N5).
func (t *Tree) prepare(p *inode.Inode, d *backing.Dir, s names.Stored, name string) error {
	if s.Kind != names.Encrypted {
		p.Mixed.Store(inode.IsMixed)
	}
	if !s.Long {
		return nil
	}
	return d.WriteDurable(s.Side(), t.Codec.SideContent(name))
}

// inheritGroup gives a new entry the group of a directory that says so (mkdir(2)).
func inheritGroup(d *backing.Dir, w *NewEntry) error {
	st, err := d.StatSelf()
	if err != nil {
		return err
	}
	if st.Nlink == 0 {
		return unix.ENOENT // the directory was removed
	}
	if st.Mode&unix.S_ISGID != 0 {
		w.Owner.GID = st.GID
		if w.Mode&unix.S_IFMT == unix.S_IFDIR {
			w.Mode |= unix.S_ISGID
		}
	}
	return nil
}

// Make makes a directory, FIFO or socket, by the type in w.Mode.
func (t *Tree) Make(p *inode.Inode, w NewEntry) (Node, error) {
	switch w.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return t.makeEntry(p, &w, func(d *backing.Dir, name string) error { return d.Mkdir(name, w.Mode, w.Owner) })
	case unix.S_IFIFO, unix.S_IFSOCK:
		return t.makeEntry(p, &w, func(d *backing.Dir, name string) error { return d.Mknod(name, w.Mode, w.Owner) })
	case unix.S_IFREG:
		n, err := t.Create(p, w)
		if err == nil {
			t.Release(n.Inode)
		}
		return n, err
	}
	return Node{}, unix.EPERM // a mail store has no devices
}

// Symlink makes the symbolic link w.Name to target.
func (t *Tree) Symlink(p *inode.Inode, w NewEntry, target string) (Node, error) {
	w.Mode = unix.S_IFLNK | 0o777
	if len(target) > names.MaxTarget {
		return Node{}, unix.ENAMETOOLONG
	}
	s := t.Codec.Create(w.Name, false, p == t.Table.Root)
	return t.makeAs(p, &w, s, func(d *backing.Dir) error { return d.Symlink(s.Name, t.Codec.Target(s, target), w.Owner) })
}

func (t *Tree) makeEntry(p *inode.Inode, w *NewEntry, mk func(d *backing.Dir, name string) error) (Node, error) {
	s := t.Codec.Create(w.Name, false, p == t.Table.Root)
	return t.makeAs(p, w, s, func(d *backing.Dir) error { return mk(d, s.Name) })
}

func (t *Tree) makeAs(p *inode.Inode, w *NewEntry, s names.Stored, mk func(*backing.Dir) error) (Node, error) {
	var node Node
	err := t.add(p, w, s, func(d *backing.Dir) error {
		if err := mk(d); err != nil {
			return err
		}
		st, err := d.Stat(s.Name)
		if err != nil {
			if w.Mode&unix.S_IFMT == unix.S_IFDIR {
				_ = d.Rmdir(s.Name)
			} else {
				_ = d.Unlink(s.Name)
			}
			return err
		}
		node = t.ref(p, d, w.Name, s, st)
		return nil
	})
	return node, err
}

// Readlink returns the target of symbolic link n.
func (t *Tree) Readlink(n *inode.Inode) (string, error) {
	var target string
	err := t.at(n, func(d *backing.Dir, a inode.Alias) (err error) {
		if t.refuses(a.Parent, a.Stored, n.Type) {
			return errPlain
		}
		target, err = t.target(d, a.Stored)
		return err
	})
	if last := n.Target.Load(); errors.Is(err, errStale) && last != nil {
		return *last, nil
	}
	return target, t.Alert(n, err)
}

func (t *Tree) target(d *backing.Dir, s names.Stored) (string, error) {
	stored, err := d.Readlink(s.Name)
	if err != nil {
		return "", err
	}
	return t.Codec.OpenTarget(s, stored)
}
