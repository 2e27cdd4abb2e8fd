package tree

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
)

// Unlink removes the entry name of p, which must not be a directory. Whoever has
// the file open keeps it.
func (t *Tree) Unlink(p *inode.Inode, name string) error {
	return t.remove(p, name, func(d *backing.Dir, s names.Stored, st *backing.Stat) error {
		if st.Type() == unix.S_IFDIR {
			return unix.EISDIR
		}
		return d.Unlink(s.Name)
	})
}

// Rmdir removes the empty directory name of p.
func (t *Tree) Rmdir(p *inode.Inode, name string) error {
	err := t.remove(p, name, func(d *backing.Dir, s names.Stored, st *backing.Stat) error {
		if st.Type() != unix.S_IFDIR {
			return unix.ENOTDIR
		}
		return t.rmdir(d, s)
	})
	if err == nil {
		t.dropBox(p, name)
	}
	return err
}

func (t *Tree) remove(p *inode.Inode, name string, rm func(*backing.Dir, names.Stored, *backing.Stat) error) error {
	d, err := t.dirFor(p, name)
	if err != nil {
		return err
	}
	defer d.Release()
	p.NS.Lock()
	defer p.NS.Unlock()
	s, st, err := t.find(p, d, name)
	if err != nil {
		return err
	}
	n, err := t.pin(p, d, s, &st)
	if err != nil {
		return err
	}
	t.removeShadowed(p, d, name, s)
	if err := rm(d, s, &st); err != nil {
		if n != nil {
			n.Unpin()
		}
		return err
	}
	t.gone(p, d, n, name, s, &st)
	return nil
}

// pin keeps the inode of an entry that is about to lose its last name reachable for
// whoever has it open, or is opening it. It returns the inode if the table has it.
func (t *Tree) pin(p *inode.Inode, d *backing.Dir, s names.Stored, st *backing.Stat) (*inode.Inode, error) {
	n := t.Table.Known(p, st, s)
	if n == nil || st.Type() != unix.S_IFDIR && st.Nlink > 1 {
		return n, nil
	}
	if st.Type() == unix.S_IFDIR {
		return n, n.PinDir(t.Table.Cache, func() (*backing.Dir, error) { return d.OpenDir(s.Name) })
	}
	return n, n.Pin(t.Table.Cache, func() (*backing.File, inode.Content, error) { return t.openPinned(d, s, st, n) })
}

// openPinned opens a file that is about to lose its name. Where its key is not at
// hand, or it has no content, only its attributes stay reachable.
func (t *Tree) openPinned(d *backing.Dir, s names.Stored, st *backing.Stat, n *inode.Inode) (*backing.File, inode.Content, error) {
	if st.Type() == unix.S_IFLNK {
		if target, err := t.target(d, s); err == nil {
			n.Target.Store(&target)
		}
	}
	if st.Type() != unix.S_IFREG {
		f, err := d.Open(s.Name, unix.O_PATH)
		return f, nil, err
	}
	f, err := d.Open(s.Name, unix.O_RDWR)
	if err != nil {
		return nil, nil, err
	}
	a, _ := t.Table.Alias(n)
	if a.Parent == nil || s.Kind.Broken() {
		return f, nil, nil
	}
	c, err := t.contentOf(n, f, a)
	if err != nil {
		return f, nil, nil // locked or damaged: opening it fails as before
	}
	return f, c, nil
}

// removeShadowed removes what a crash of a conversion left beside entry s (N8), so
// that it does not come to light when s goes.
func (t *Tree) removeShadowed(p *inode.Inode, d *backing.Dir, name string, s names.Stored) {
	if s.Kind != names.Encrypted || !t.mixed(p, d) {
		return
	}
	t.Codec.Candidates(name, p == t.Table.Root, func(other names.Stored) bool {
		if other.Name != s.Name && !other.Kind.Broken() {
			if err := d.Unlink(other.Name); err == nil {
				t.Log.Info("removed the leftover of a conversion", "store", other.Name)
			}
		}
		return false
	})
}

// gone updates what is known after entry s of p was removed.
func (t *Tree) gone(p *inode.Inode, d *backing.Dir, n *inode.Inode, name string, s names.Stored, st *backing.Stat) {
	if s.Long && !s.Kind.Broken() {
		_ = d.Unlink(s.Side()) // without its entry it has no meaning (N5)
	}
	if n != nil {
		t.Table.DropAlias(n, p, name, st.Nlink <= 1 || st.Type() == unix.S_IFDIR)
	}
}

// rmdir removes the stored directory s, with side entries that a crash has left.
func (t *Tree) rmdir(d *backing.Dir, s names.Stored) error {
	err := d.Rmdir(s.Name)
	if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
		return err
	}
	sub, oerr := d.OpenDir(s.Name)
	if oerr != nil {
		return err
	}
	defer sub.Release()
	if !t.dropOrphans(sub) {
		return err
	}
	return d.Rmdir(s.Name)
}

// dropOrphans removes the side entries of d if d has nothing else.
func (t *Tree) dropOrphans(d *backing.Dir) bool {
	l, err := listOf(d)
	if err != nil {
		return false
	}
	defer l.Close()
	var sides []string
	for {
		e, ok, err := l.Peek()
		if err != nil {
			return false
		}
		if !ok {
			break
		}
		l.Skip()
		if e.Name == "." || e.Name == ".." {
			continue
		}
		if _, s := t.Codec.Decode(e.Name, false); s.Kind != names.Hidden {
			return false
		}
		sides = append(sides, e.Name)
	}
	for _, name := range sides {
		// A conversion takes its own temporary file away at any time.
		if err := d.Unlink(name); err != nil && !errors.Is(err, unix.ENOENT) {
			return false
		}
	}
	return true
}

func listOf(d *backing.Dir) (*backing.Lister, error) {
	own, err := d.OpenDir(".")
	if err != nil {
		return nil, err
	}
	return backing.NewLister(own), nil
}
