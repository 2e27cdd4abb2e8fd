package tree

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/route"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/seal"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// Open returns the content of regular file n for a new handle, which Release gives
// back. The error wraps secret.ErrLocked while the key of the file is not at hand.
func (t *Tree) Open(n *inode.Inode) (inode.Content, error) {
	t.noteOpened(n)       // before there are pages
	defer t.noteOpened(n) // and after: the end of an epoch forgets what nobody has open yet
	if c, ok := n.AcquireOpen(t.Table.Cache); ok {
		return c, nil
	}
	var c inode.Content
	err := t.at(n, func(d *backing.Dir, a inode.Alias) (err error) {
		c, err = n.Acquire(t.Table.Cache, func() (*backing.File, inode.Content, error) { return t.openStored(n, d, a) })
		return err
	})
	return c, t.Alert(n, err)
}

// openStored opens the stored file of n, which is entry a of d, and its content.
func (t *Tree) openStored(n *inode.Inode, d *backing.Dir, a inode.Alias) (*backing.File, inode.Content, error) {
	if a.Stored.Kind.Broken() {
		return nil, nil, errBroken
	}
	f, err := d.Open(a.Stored.Name, unix.O_RDWR)
	if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EPERM) {
		f, err = d.Open(a.Stored.Name, unix.O_RDONLY) // the store is read-only, or the file immutable
	}
	if err != nil {
		return nil, nil, err
	}
	c, err := t.contentOf(n, f, a)
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, c, nil
}

func (t *Tree) contentOf(n *inode.Inode, f *backing.File, a inode.Alias) (inode.Content, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !t.Table.Same(n, &st) {
		return nil, errStale
	}
	if t.refuses(a.Parent, a.Stored, n.Type) {
		return nil, errPlain
	}
	return contentIn(f, st.Size, a.Stored, t.keysFor(a.Parent, a.Name))
}

// Release gives back a handle of n and reports whether cached pages of it must go,
// because its key is gone.
func (t *Tree) Release(n *inode.Inode) (dropPages bool) {
	t.noteWritten(n)
	return n.Release(t.Table.Cache)
}

// Flush hands over what was written to n to the machine that keeps the store.
func (t *Tree) Flush(n *inode.Inode) error {
	_, err := n.WithFile(func(f *backing.File, _ inode.Content) error { return f.Flush() })
	return err
}

// fileKeys implements content.Keys for one file.
type fileKeys struct {
	t     *Tree
	user  account.User
	class route.Class

	former []account.User // whose it was before
}

func (t *Tree) keysFor(dir *inode.Inode, name string) fileKeys {
	r := t.Table.Route(dir)
	return fileKeys{t, r.User(), r.Class(name), r.Former()}
}

// New implements content.Keys.
func (k fileKeys) New() (format.Header, *seal.FileKey, error) {
	h := format.Header{Layout: format.Padded}
	if k.class == route.Message || k.class == route.Scratch {
		h.Layout = format.WriteOnce
	}
	for {
		ck, err := k.sealing()
		if err != nil {
			return h, nil, err
		}
		h.KeyID = ck.ID
		seal.Nonces(h.Salt[:])
		key, err := seal.NewFileKey(ck.Key, &h)
		if !errors.Is(err, secret.ErrWiped) { // else its epoch has just ended: there is a newer one
			return h, key, err
		}
	}
}

// sealing returns the content key for new content of the file.
func (k fileKeys) sealing() (secret.ContentKey, error) {
	if k.class == route.Scratch {
		return k.t.scratch, nil
	}
	if k.class == route.Meta || k.user == "" {
		return k.t.Site.Meta, nil
	}
	if k.t.Delivery != Sealed && !k.t.Keys.Holds(k.user) {
		return k.t.Site.Delivery, nil
	}
	ck, err := k.t.Keys.SealingKey(k.user)
	if errors.Is(err, secret.ErrNotEnrolled) {
		return k.t.Site.Delivery, nil
	}
	return ck, ofKeys(err)
}

// Open implements content.Keys.
func (k fileKeys) Open(h *format.Header) (*seal.FileKey, error) {
	key, err := k.opening(secret.ID(h.KeyID))
	if err != nil {
		return nil, err
	}
	fk, err := seal.NewFileKey(key, h)
	if errors.Is(err, secret.ErrWiped) { // since it was handed out
		err = fmt.Errorf("%w: %w", secret.ErrLocked, err)
	}
	return fk, err
}

func (k fileKeys) opening(id secret.ID) (*secret.Key, error) {
	switch {
	case id == k.t.Site.Meta.ID:
		return k.t.Site.Meta.Key, nil
	case id == k.t.Site.Delivery.ID:
		return k.t.Site.Delivery.Key, nil
	case k.class == route.Scratch && id == k.t.scratch.ID:
		return k.t.scratch.Key, nil
	case k.foreign(id):
		return k.formerKey(id)
	case k.user == "":
		return nil, fmt.Errorf("%w: %v, outside of any user's tree", secret.ErrUnknownKey, id)
	}
	key, err := k.t.Keys.OpeningKey(k.user, id)
	return key, ofKeys(err)
}

// plaintext reports whether a new private file is to be stored as a plain entry.
func (k fileKeys) plaintext() bool {
	if k.class == route.Meta || k.user == "" || k.t.Delivery != Plaintext && k.t.Unenrolled != Plaintext || k.t.Keys.Holds(k.user) {
		return false
	}
	_, err := k.t.Keys.OpeningKey(k.user, secret.ID{})
	enrolled := !errors.Is(err, secret.ErrNotEnrolled)
	return enrolled && k.t.Delivery == Plaintext || !enrolled && k.t.Unenrolled == Plaintext
}

// noteOpened remembers that pages of a private file may be cached.
func (t *Tree) noteOpened(n *inode.Inode) {
	a, ok := t.Table.Alias(n)
	if !ok {
		return
	}
	r := t.Table.Route(a.Parent)
	if r.User() == "" && len(r.Former()) == 0 || r.Class(a.Name) == route.Meta {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.User() != "" {
		t.used[r.User()] = time.Now()
	}
	old := t.noted[n]
	if old == r {
		return
	}
	if old != nil {
		t.unnoteLocked(n, old)
	}
	t.noted[n] = r
	for _, u := range r.Former() {
		t.noteLocked(n, u)
	}
	if r.User() != "" {
		t.noteLocked(n, r.User())
	}
}

func (t *Tree) noteLocked(n *inode.Inode, u account.User) {
	set := t.opened[u]
	if set == nil {
		set = map[*inode.Inode]struct{}{}
		t.opened[u] = set
	}
	set[n] = struct{}{}
}

// unnoteLocked undoes noteOpened for an inode of directory r.
func (t *Tree) unnoteLocked(n *inode.Inode, r *route.Dir) {
	delete(t.noted, n)
	t.forgetLocked(n, r.User())
	for _, u := range r.Former() {
		t.forgetLocked(n, u)
	}
}

func (t *Tree) forgetLocked(n *inode.Inode, u account.User) {
	if delete(t.opened[u], n); len(t.opened[u]) == 0 {
		delete(t.opened, u)
	}
}

// unnoteIdle undoes noteOpened for those of set that nobody has open.
func (t *Tree) unnoteIdle(set map[*inode.Inode]struct{}) {
	idle := make([]*inode.Inode, 0, len(set))
	for n := range set {
		if n.Handles() == 0 {
			idle = append(idle, n)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range idle {
		if r := t.noted[n]; r != nil {
			t.unnoteLocked(n, r)
		}
	}
}

// Use returns how many handles of private files of u are open, and when one was
// opened last: the zero time if never since u was locked.
func (t *Tree) Use(u account.User) (handles int, last time.Time) {
	t.mu.Lock()
	set := maps.Clone(t.opened[u])
	last = t.used[u]
	t.mu.Unlock()
	for n := range set {
		handles += n.Handles()
	}
	return handles, last
}

// unnote undoes noteOpened for an inode that the kernel has forgotten.
func (t *Tree) unnote(n *inode.Inode) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.noted[n]; r != nil {
		t.unnoteLocked(n, r)
	}
}

// KeysGone drops what is cached of the private files of u, after keys of u were
// wiped, and returns the node ids whose pages the kernel has to drop. Handles that
// are open keep working, and count as use.
func (t *Tree) KeysGone(u account.User) []uint64 {
	unlocked := t.Keys.Holds(u) // only a delivery key has come to its end
	t.mu.Lock()
	set := maps.Clone(t.opened[u])
	if !unlocked {
		delete(t.used, u)
	}
	t.mu.Unlock()
	t.unnoteIdle(set)
	var ids []uint64
	for n := range set {
		n.Expire()
		if t.Table.Get(n.ID) == n {
			ids = append(ids, n.ID)
		}
	}
	return ids
}
