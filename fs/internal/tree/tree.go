// Package tree is the view as a tree of inodes: it finds, makes, moves and removes
// entries of the store under their names of the view, opens content with the right
// user's key, and tells attributes. It knows nothing of FUSE; package node
// translates requests into calls of it.
package tree

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/route"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/seal"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

// KeySource is the only door to users' keys. Its methods are safe for concurrent
// use and fast when the key is at hand.
type KeySource interface {
	// SealingKey returns the key for new private content of u: the current content
	// key of an unlocked user, else the delivery key of the epoch, durable before it
	// is returned. The error is secret.ErrNotEnrolled for a user without identity.
	SealingKey(u account.User) (secret.ContentKey, error)
	// OpeningKey returns the content key id of u. The error is secret.ErrLocked for a
	// key that only the user's secret opens, secret.ErrUnknownKey or
	// secret.ErrNotEnrolled.
	OpeningKey(u account.User, id secret.ID) (*secret.Key, error)
	// Holds reports whether u is unlocked.
	Holds(u account.User) bool
	// Retired reports whether the content key id of u was replaced by a newer one.
	Retired(u account.User, id secret.ID) bool
}

// Delivery is what private content of a locked, or not enrolled, user is
// encrypted with.
type Delivery uint8

// The delivery modes of the configuration.
const (
	Sealed    Delivery = iota // the epoch's delivery key
	Site                      // the site's delivery key
	Plaintext                 // nothing: a plain entry
)

// Options configure a Tree. All fields but the flags are required.
type Options struct {
	Store       *backing.Dir // the root; the Tree takes over the caller's count
	Codec       *names.Codec
	XAttrs      *seal.XAttrs
	Policy      *route.Policy
	Keys        KeySource
	Site        *site.Keys
	Log         *slog.Logger
	Delivery    Delivery // for locked users
	Unenrolled  Delivery // for users without identity: Site or Plaintext
	RefusePlain bool     // plain = "refuse"
	Shared      bool     // other hosts change the store too
	Descriptors int      // idle descriptors to keep open
}

// Tree is one view. It is safe for concurrent use.
type Tree struct {
	Options
	Table *inode.Table
	// DropEntry, if set, makes the kernel look up the name in a directory, by its node
	// id, again.
	DropEntry func(dir uint64, name string)
	// DropPages, if set, makes the kernel ask again for the attributes and the content
	// of inodes, by their node ids.
	DropPages func(ids []uint64)

	mu     sync.Mutex
	opened map[account.User]map[*inode.Inode]struct{} // private files that may have cached pages
	noted  map[*inode.Inode]*route.Dir                // the same, by inode: where it was opened
	used   map[account.User]time.Time                 // when a private file was opened last
	temps  map[string]struct{}                        // temporary files of conversions under way (N12)

	watching []*Moves

	background sync.WaitGroup
	ending     sync.Once
	ended      chan struct{} // closed by Close

	scratch secret.ContentKey // of messages on the way (C15), where the policy has such
	boxes   boxes
}

// New makes a Tree over the open root of a store. What an earlier process left
// unsynced is made durable first, so that every step of C10 that this one finds on
// the store counts.
func New(o Options) (*Tree, error) {
	if err := o.Store.SyncAll(); err != nil {
		return nil, fmt.Errorf("cannot sync the store: %w", err)
	}
	st, err := o.Store.StatSelf()
	if err != nil {
		return nil, fmt.Errorf("cannot describe the store: %w", err)
	}
	t := &Tree{
		Options: o,
		Table:   inode.NewTable(o.Store, st, o.Policy, o.Descriptors),
		opened:  map[account.User]map[*inode.Inode]struct{}{},
		noted:   map[*inode.Inode]*route.Dir{},
		used:    map[account.User]time.Time{},
		temps:   map[string]struct{}{},
		ended:   make(chan struct{}),
	}
	t.Table.Reaped = t.unnote
	return t, t.newScratch()
}

// Node is an inode with its attributes.
type Node struct {
	*inode.Inode
	Attr Attr
}

// dir returns the descriptor of directory n with a count for the caller, walking
// up the tree as far as needed. No namespace lock may be held.
func (t *Tree) dir(n *inode.Inode) (*backing.Dir, error) {
	d, err := t.openDir(n)
	if err == nil && t.Policy.Structured() {
		t.identify(n, d)
	}
	return d, err
}

func (t *Tree) openDir(n *inode.Inode) (*backing.Dir, error) {
	return n.Dir(t.Table.Cache, func() (*backing.Dir, error) {
		var d *backing.Dir
		err := t.at(n, func(parent *backing.Dir, a inode.Alias) (err error) {
			if d, err = parent.OpenDir(a.Stored.Name); err != nil {
				return err
			}
			st, err := d.StatSelf()
			if err == nil && !t.Table.Same(n, &st) {
				err = errStale
			}
			if err != nil {
				d.Release()
			}
			return err
		})
		return d, err
	})
}

// at calls f with the open directory and the name through which inode n is
// reached, while that directory's namespace cannot change. No namespace lock may be
// held. The error is errStale for an inode without a name.
func (t *Tree) at(n *inode.Inode, f func(*backing.Dir, inode.Alias) error) error {
	for {
		a, ok := t.Table.Alias(n)
		if !ok {
			return errStale
		}
		again, err := t.atAlias(n, a, f)
		if !again {
			return err
		}
	}
}

// atAlias is one try of at; it asks for another when the name has changed.
func (t *Tree) atAlias(n *inode.Inode, a inode.Alias, f func(*backing.Dir, inode.Alias) error) (again bool, err error) {
	d, err := t.dir(a.Parent)
	if err != nil {
		return false, err
	}
	defer d.Release()
	a.Parent.NS.RLock()
	defer a.Parent.NS.RUnlock()
	if now, _ := t.Table.Alias(n); now != a {
		return true, nil
	}
	return false, f(d, a)
}

// Forget takes back count lookups of the kernel.
func (t *Tree) Forget(id, count uint64) { t.Table.Forget(id, count) }

// user returns whose subtree the directory is in.
func (t *Tree) user(dir *inode.Inode) account.User { return t.Table.Route(dir).User() }
