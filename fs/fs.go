// Package fs mounts a store of encrypted mail as a decrypted view. FORMAT.md
// describes what is stored. The packages below, from the bytes to the kernel:
//
//	format    byte layout and sizes           seal     keys and ciphers, no I/O
//	names     names of entries                route    whose path, which class
//	backing   system calls on the store       content  plaintext view of one file
//	inode     table of inodes, descriptors    tree     the view as a tree
//	node      FUSE requests and replies       worker   converting in the background
package fs

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/node"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/seal"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/tree"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/worker"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

// KeySource is the only door to users' keys.
type KeySource = tree.KeySource

// Options say what to mount where. Store, View, Site, Keys and Log are required.
type Options struct {
	Store   string // root of the encrypted tree
	View    string // mount point, which must exist
	Layout  Layout
	Site    *site.Keys
	Keys    KeySource
	Log     *slog.Logger
	Worker  WorkerLimits
	XAttrs  bool // serve extended attributes: costs a request before many writes
	Cluster bool // other hosts change the store too
}

// View is a mounted view. Its methods are safe for concurrent use.
type View struct {
	tree   *tree.Tree
	node   *node.FS
	worker *worker.Worker
	mount  string
	minor  uint32 // names the kernel's connection
}

// Mount mounts a view, for all users and without fusermount, and returns when the
// mount answers. The caller ends it with Unmount.
func Mount(o Options) (*View, error) {
	t, err := newTree(o)
	if err != nil {
		return nil, err
	}
	n := node.New(t, o.Log, o.Cluster)
	t.DropEntry, t.DropPages = n.DropEntry, n.DropPages
	v := &View{tree: t, node: n, worker: worker.New(t, o.Log, o.Worker), mount: o.View}
	if err := v.node.Mount(o.View, o.Store, o.XAttrs); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Stat(o.View, &st); err != nil {
		return nil, errors.Join(fmt.Errorf("the view on %s does not answer: %w", o.View, err), v.Unmount())
	}
	v.minor = unix.Minor(st.Dev)
	return v, nil
}

func newTree(o Options) (*tree.Tree, error) {
	policy, err := o.Layout.policy()
	if err != nil {
		return nil, err
	}
	keys, err := seal.NewNames(o.Site.NamesMAC, o.Site.NamesEnc)
	if err != nil {
		return nil, err
	}
	xattrs, err := seal.NewXAttrs(o.Site.XAttr)
	if err != nil {
		return nil, err
	}
	store, err := backing.OpenRoot(o.Store)
	if err != nil {
		return nil, err
	}
	unix.Umask(0) // modes come with the requests; a filesystem daemon has no mask of its own
	t, err := tree.New(tree.Options{
		Store:       store,
		Codec:       names.New(keys, o.Layout.Names == "plain"),
		XAttrs:      xattrs,
		Policy:      policy,
		Keys:        o.Keys,
		Site:        o.Site,
		Log:         o.Log,
		Delivery:    delivery(o.Layout.Delivery),
		Unenrolled:  delivery(o.Layout.Unenrolled),
		RefusePlain: o.Layout.Plain == "refuse",
		Shared:      o.Cluster,
		Descriptors: idleDescriptors(o.Cluster),
	})
	if err != nil {
		store.Release()
		return nil, err
	}
	if err := t.PurgeScratch(); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// idleDescriptors is how many descriptors stay open for inodes that nobody has
// open: a part of what the process may have, none where another host may change
// the files.
func idleDescriptors(cluster bool) int {
	var l unix.Rlimit
	if cluster || unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return int(min(l.Cur/4, 16384))
}

// KeysGone drops what the daemon and the kernel cache of the private files of u,
// after keys of u were wiped. Handles that are open keep working.
func (v *View) KeysGone(u account.User) { v.node.DropPages(v.tree.KeysGone(u)) }

// Use returns how many handles of private files of u are open, and when one was
// opened last: the zero time if never since u was locked.
func (v *View) Use(u account.User) (handles int, last time.Time) { return v.tree.Use(u) }

// Wait returns when the kernel's connection has ended.
func (v *View) Wait() { v.node.Wait() }

// Stats are figures of a running view.
type Stats struct {
	Inodes          int              `json:"inodes"`           // known to the kernel, or parents of such
	IdleDescriptors int              `json:"idle_descriptors"` // open though nobody has the inode open
	Requests        map[string]int64 `json:"requests"`         // served, by kind
}

// Stats returns the figures of now.
func (v *View) Stats() Stats {
	return Stats{Inodes: v.tree.Table.Len(), IdleDescriptors: v.tree.Table.Cache.Len(), Requests: v.node.Counts()}
}
