package tree

import (
	"bytes"
	"errors"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// PathOf returns the path of an entry in the view, from its root.
func (t *Tree) PathOf(n Name) string {
	view, _ := t.paths(n.Dir)
	return path.Join(view, n.Name)
}

// DropLeftovers removes what crashes of conversions have left in directory n: plain
// entries beside an encrypted one of the same name (N8) that have the same content,
// temporary files (N12), and side entries without the entry (N5). A plain entry with
// another content is left, and logged.
func (t *Tree) DropLeftovers(n *inode.Inode) {
	d, err := t.dir(n)
	if err != nil {
		return
	}
	defer d.Release()
	defer t.lookAgain(n)
	l, err := listOf(d)
	if err != nil {
		return
	}
	defer l.Close()
	for {
		e, ok, err := l.Peek()
		if err != nil || !ok {
			return
		}
		l.Skip()
		if e.Name != "." && e.Name != ".." {
			t.dropLeftover(n, d, e.Name)
		}
	}
}

// lookAgain has mixed look at directory n anew: a pass may have converted all of it.
func (t *Tree) lookAgain(n *inode.Inode) {
	n.NS.Lock()
	defer n.NS.Unlock()
	n.Mixed.Store(inode.MayBeMixed)
}

func (t *Tree) dropLeftover(n *inode.Inode, d *backing.Dir, stored string) {
	if names.IsTemporary(stored) {
		t.dropTemporary(&place{dir: n, d: d}, stored)
		return
	}
	if entry, ok := names.Sided(stored); ok {
		t.dropSide(&place{dir: n, d: d}, entry, stored)
		return
	}
	name, s := t.Codec.Decode(stored, n == t.Table.Root)
	if s.Kind != names.Plain && s.Kind != names.PlainNamed {
		return
	}
	n.NS.Lock()
	defer n.NS.Unlock()
	first, st, err := t.find(n, d, name)
	if err != nil || first.Name == stored || st.Type() != unix.S_IFREG {
		return
	}
	left := place{dir: n, d: d, name: name, s: s}
	if left.st, err = d.Stat(stored); err != nil || left.st.Type() != unix.S_IFREG {
		return
	}
	same, err := t.sameContent(place{dir: n, d: d, name: name, s: first, st: st}, left)
	if errors.Is(err, secret.ErrLocked) {
		return // a pass with the user's key can tell
	}
	if !same {
		t.Log.Warn("two stored files have one name in the view, and differ: the encrypted one is shown", "view", t.PathOf(Name{n, name}), "store", stored)
		return
	}
	if quietlyLocked(&left, func() error { return d.Unlink(stored) }) == nil {
		t.Log.Info("removed the leftover of a conversion", "store", stored)
	}
}

// dropSide removes a side entry whose entry is not there.
func (t *Tree) dropSide(p *place, entry, side string) {
	if t.Shared && !olderThan(p.d, side, 24*time.Hour) {
		return // another host may be about to make the entry
	}
	p.dir.NS.Lock()
	defer p.dir.NS.Unlock()
	if _, err := p.d.Stat(entry); errors.Is(err, unix.ENOENT) {
		_ = quietlyLocked(p, func() error { return p.d.Unlink(side) })
	}
}

// dropTemporary removes a temporary file that a crash has left: one that is nobody's,
// and with a store that others change too, older than a day.
func (t *Tree) dropTemporary(p *place, stored string) {
	t.mu.Lock()
	_, busy := t.temps[stored]
	t.mu.Unlock()
	if busy || t.Shared && !olderThan(p.d, stored, 24*time.Hour) {
		return
	}
	_ = quietly(p, func() error { return p.d.Unlink(stored) })
}

func olderThan(d *backing.Dir, stored string, age time.Duration) bool {
	st, err := d.Stat(stored)
	return err == nil && time.Since(time.Unix(st.Ctime.Sec, int64(st.Ctime.Nsec))) > age
}

// sameContent reports whether two stored files have the same plaintext; with an error it
// is not known.
func (t *Tree) sameContent(a, b place) (bool, error) {
	ca, closeA, err := t.contentAt(&a)
	if err != nil {
		return false, err
	}
	defer closeA()
	cb, closeB, err := t.contentAt(&b)
	if err != nil {
		return false, err
	}
	defer closeB()
	size, errA := ca.Length()
	sizeB, errB := cb.Length()
	if err := errors.Join(errA, errB); err != nil || size != sizeB {
		return false, err
	}
	bufA, bufB := make([]byte, 1<<16), make([]byte, 1<<16)
	for off := int64(0); off < size; off += int64(len(bufA)) {
		na, errA := ca.ReadAt(bufA, off)
		nb, errB := cb.ReadAt(bufB, off)
		if err := errors.Join(errA, errB); err != nil {
			return false, err
		}
		if int64(na) != min(size-off, int64(len(bufA))) || !bytes.Equal(bufA[:na], bufB[:nb]) {
			return false, nil
		}
	}
	return true, nil
}

func (t *Tree) contentAt(p *place) (inode.Content, func(), error) {
	f, err := p.d.Open(p.s.Name, unix.O_RDONLY|unix.O_NOATIME)
	if err != nil {
		return nil, nil, err
	}
	c, err := t.reader(f, p)
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return c, func() { _ = f.Close() }, nil
}
