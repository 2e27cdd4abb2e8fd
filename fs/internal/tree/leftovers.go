package tree

import (
	"bytes"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
)

// PathOf returns the path of an entry in the view, from its root.
func (t *Tree) PathOf(n Name) string {
	view, _ := t.paths(n.Dir)
	return path.Join(view, n.Name)
}

// DropLeftovers removes what crashes of conversions have left in directory n: plain
// entries beside an encrypted one of the same name (N8) that have the same content,
// and temporary files (N12). A plain entry with another content is
// left, and logged.
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
	if !t.sameContent(place{dir: n, d: d, name: name, s: first, st: st}, left) {
		t.Log.Warn("two stored files have one name in the view, and differ: the encrypted one is shown", "view", t.PathOf(Name{n, name}), "store", stored)
		return
	}
	if quietlyLocked(&left, func() error { return d.Unlink(stored) }) == nil {
		t.Log.Info("removed the leftover of a conversion", "store", stored)
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

// sameContent reports whether two stored files have the same plaintext.
func (t *Tree) sameContent(a, b place) bool {
	ca, closeA, err := t.contentAt(&a)
	if err != nil {
		return false
	}
	defer closeA()
	cb, closeB, err := t.contentAt(&b)
	if err != nil {
		return false
	}
	defer closeB()
	size, errA := ca.Length()
	if sizeB, errB := cb.Length(); errA != nil || errB != nil || size != sizeB {
		return false
	}
	bufA, bufB := make([]byte, 1<<16), make([]byte, 1<<16)
	for off := int64(0); off < size; off += int64(len(bufA)) {
		na, errA := ca.ReadAt(bufA, off)
		nb, errB := cb.ReadAt(bufB, off)
		if errA != nil || errB != nil || int64(na) != min(size-off, int64(len(bufA))) || !bytes.Equal(bufA[:na], bufB[:nb]) {
			return false
		}
	}
	return true
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
