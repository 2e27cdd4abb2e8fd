package tree

import (
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/route"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// headerAge is for how long a header holds that another host may replace.
const headerAge = time.Second

// identify finds out whose the open directory n is where only its header tells. A
// directory without one is nobody's: what is made in it is under the site's key, and
// converted once a header tells whose it is.
func (t *Tree) identify(n *inode.Inode, d *backing.Dir) {
	if !t.Table.Route(n).Box() {
		return
	}
	b := n.Box.Load()
	if b == nil {
		n.Box.CompareAndSwap(nil, &inode.Box{})
		b = n.Box.Load()
	}
	if b.Mailbox.Load() != nil && !b.Stale.Load() && !t.Shared {
		return
	}
	n.NS.RLock()
	defer n.NS.RUnlock()
	b.Mu.Lock()
	defer b.Mu.Unlock()
	if err := t.readBox(n, d, b); err != nil && !errors.Is(err, unix.ENOENT) {
		_ = t.Alert(n, err)
	}
}

// readBox reads the header of n unless it is known. The caller holds n.NS and b.Mu.
func (t *Tree) readBox(n *inode.Inode, d *backing.Dir, b *inode.Box) error {
	stale := b.Stale.Swap(false)
	known := b.Mailbox.Load() != nil
	if known && !stale && time.Since(b.Read) < headerAge {
		return nil
	}
	s, st, err := t.find(n, d, route.HeaderName)
	if err != nil {
		return err
	}
	b.Read = time.Now()
	if known && b.Header.Unchanged(&st) {
		return nil
	}
	h, err := t.header(n, &place{dir: n, d: d, name: route.HeaderName, s: s, st: st})
	if err != nil {
		return err
	}
	m, err := t.mailbox(n, h)
	if err != nil {
		return err
	}
	b.Header = st
	t.settle(n, m)
	return nil
}

// header reads the file p as the header of box n. It counts only if it names the
// directory: else whoever can write to the store could give a mailbox to another user
// with that user's header.
func (t *Tree) header(n *inode.Inode, p *place) (route.Header, error) {
	if p.s.Kind.Broken() || p.st.Type() != unix.S_IFREG {
		return route.Header{}, errBroken
	}
	if t.RefusePlain && !p.s.Kind.Sealed() {
		return route.Header{}, errPlain
	}
	f, err := p.d.Open(p.s.Name, unix.O_RDONLY|unix.O_NOATIME)
	if err != nil {
		return route.Header{}, err
	}
	defer f.Close()
	c, err := contentIn(f, p.st.Size, p.s, fileKeys{t: t})
	if err != nil {
		return route.Header{}, err
	}
	size, err := c.Length()
	if err != nil {
		return route.Header{}, err
	}
	buf := make([]byte, min(size, route.MaxHeader))
	got, err := c.ReadAt(buf, 0)
	if err != nil {
		return route.Header{}, err
	}
	h, err := route.ParseHeader(buf[:got])
	if a, _ := t.Table.Alias(n); err == nil && h.ID != a.Name {
		err = errForeign
	}
	return h, err
}

// mailbox makes what is known of box n when its header is h. Whose it was before is
// durable when it returns.
func (t *Tree) mailbox(n *inode.Inode, h route.Header) (*route.Mailbox, error) {
	at := t.Table.Route(n)
	owner := at.As(&route.Mailbox{Name: h.Name}).User()
	var was []account.User
	if known := n.Box.Load().Mailbox.Load(); known == nil || t.Shared {
		var err error
		if was, err = t.readFormer(h.ID); err != nil {
			return nil, err
		}
	} else {
		was = known.Former
	}
	now := slices.DeleteFunc(slices.Clone(was), func(u account.User) bool { return u == owner })
	if old := at.User(); old != "" && old != owner && !slices.Contains(now, old) {
		now = append(now, old)
		if err := t.writeFormer(h.ID, now); err != nil {
			t.Log.Error("cannot record whose mailbox this was: it stays the former owner's", "mailbox", h.ID, "error", err)
			return nil, unix.EIO
		}
	}
	return &route.Mailbox{Name: h.Name, Former: now}, nil
}

// settle makes m known as the mailbox of box n.
func (t *Tree) settle(n *inode.Inode, m *route.Mailbox) {
	t.Table.SetMailbox(n, m)
	r := t.Table.Route(n)
	path, _ := t.paths(n)
	t.boxes.set(path, r.User(), r.Former())
}

// newOwner prepares that src becomes the header of the box of dst: it returns what
// will be known of the box then, or nil if src says nothing of it.
func (t *Tree) newOwner(src, dst *place) (*route.Mailbox, error) {
	if !t.Policy.Structured() || dst.name != route.HeaderName || dst.dir.Box.Load() == nil {
		return nil, nil
	}
	h, err := t.header(dst.dir, src)
	if err != nil {
		return nil, nil // not a header: it counts for nothing
	}
	return t.mailbox(dst.dir, h)
}

// headed says that dst is new, with what newOwner made of it.
func (t *Tree) headed(dst *place, m *route.Mailbox) {
	if m != nil {
		t.settle(dst.dir, m)
	} else if b := dst.dir.Box.Load(); b != nil && dst.name == route.HeaderName {
		b.Stale.Store(true)
	}
}

// noteWritten has the header of a box looked at again after n, which may be it, was
// open.
func (t *Tree) noteWritten(n *inode.Inode) {
	if !t.Policy.Structured() {
		return
	}
	if a, ok := t.Table.Alias(n); ok && a.Name == route.HeaderName {
		if b := a.Parent.Box.Load(); b != nil {
			b.Stale.Store(true)
		}
	}
}

// dropBox forgets the box name, which was removed from p.
func (t *Tree) dropBox(p *inode.Inode, name string) {
	if !t.Policy.Structured() || !t.Table.Route(p).Child(name).Box() {
		return
	}
	t.boxes.set(t.PathOf(Name{p, name}), "", nil)
	if err := t.writeFormer(name, nil); err != nil {
		t.Log.Warn("cannot remove the record of a mailbox", "mailbox", name, "error", err)
	}
}

// Owner returns whose directory n is.
func (t *Tree) Owner(n *inode.Inode) account.User { return t.user(n) }
