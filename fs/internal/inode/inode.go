// Package inode is the table of inodes that the kernel knows: their identity on
// the lower filesystem, the names under which they were seen, their shared open
// content and a bounded cache of descriptors.
//
// Lock order, outermost first; a lock may be taken only while holding locks
// above it:
//
//	Inode.NS of directories (the namespace of one directory; of two, the one with
//	the lower ID first; never while walking up to open a directory)
//	  Box.Mu (the header in one directory)
//	  Inode.open.mu (descriptor and content of one inode)
//	    content.File's own lock
//	      Table.mu, Cache.mu, Listers.mu (leaves: never held across a system call)
package inode

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/route"
)

// RootID is the node id of the root.
const RootID = 1

// Alias is one name of an inode: an entry of a directory.
type Alias struct {
	Parent *Inode
	Name   string // in the view
	Stored names.Stored
}

// Inode is one inode that the kernel, an open handle or a child refers to.
type Inode struct {
	// ID is the node id: never used again for another inode.
	ID uint64
	// Ino is the inode number shown in the view.
	Ino uint64
	// Type is the S_IFMT bits of the mode.
	Type uint32

	// NS orders changes of a directory's entries (write lock) against whoever
	// resolves one of them (read lock). Only directories use it.
	NS sync.RWMutex

	open  open
	route atomic.Pointer[routed]
	sizes atomic.Pointer[Size]
	// Alerted is set once damage of this inode has been logged.
	Alerted atomic.Bool
	// Mixed says whether a directory has other than encrypted entries: MayBeMixed,
	// IsMixed or NotMixed. It changes with NS held, for writing where to IsMixed.
	Mixed atomic.Int32
	// Listers are the listings of a directory: no conversion gives an entry of it another
	// stored name meanwhile.
	Listers Listers
	// StaleList is set when what the kernel may have kept of a listing cannot be gone on
	// with: half of one that was given up, or offsets of before a conversion of names.
	StaleList atomic.Bool
	// Converted is set before a conversion first touches a stored directory: for a moment
	// its modification time is not what the view shows, unless one holds NS.
	Converted atomic.Bool
	// Box is set for a directory whose header tells whose it is.
	Box atomic.Pointer[Box]
	// Target is the view's target of a symbolic link that lost its last name while
	// somebody may still be following it.
	Target atomic.Pointer[string]

	// Guarded by Table.mu.
	id       backing.Stat // identity only: see backing.Stat.Same
	key      key          // where the table has it, unless detached
	sealed   bool         // content is encrypted (C1)
	broken   bool         // name does not open (N9)
	lookups  uint64
	children int // aliases of other inodes whose Parent this is
	aliases  []Alias
	born     *Inode // directory in which a file without a name was made
	detached bool   // no longer found by its lower identity
	moved    bool   // its view number may be the lower number of another file
}

// Values of Inode.Mixed.
const (
	MayBeMixed = iota // nobody has looked
	IsMixed
	NotMixed
)

// routed is the cached place of a directory in the policy, valid for one
// generation of Table.moves.
type routed struct {
	dir   *route.Dir
	moves uint64
}

// Box is what is known of a directory whose header tells whose it is.
type Box struct {
	// Mailbox is what the header said when it was read last; nil before.
	Mailbox atomic.Pointer[route.Mailbox]
	// Stale says that the header may have changed since.
	Stale atomic.Bool

	Mu     sync.Mutex   // orders readers of the header, who hold NS for reading
	Header backing.Stat // state of the header that was read; guarded by Mu
	Read   time.Time    // when; guarded by Mu
}

// Size is a plaintext size that had to be read from the file, and the stored size
// and change time for which it is valid.
type Size struct {
	Stored, CtimeSec, Plain int64
	CtimeNsec               uint32
}

// CachedSize returns the plaintext size that was read for a file in the state st.
func (n *Inode) CachedSize(st *backing.Stat) (int64, bool) {
	s := n.sizes.Load()
	if s == nil || s.Stored != st.Size || s.CtimeSec != st.Ctime.Sec || s.CtimeNsec != st.Ctime.Nsec {
		return 0, false
	}
	return s.Plain, true
}

// CacheSize remembers the plaintext size of a file in the state st, if that state can be
// told from a later one.
func (n *Inode) CacheSize(st *backing.Stat, plain int64) {
	if !st.Settled() {
		return
	}
	n.sizes.Store(&Size{Stored: st.Size, CtimeSec: st.Ctime.Sec, CtimeNsec: st.Ctime.Nsec, Plain: plain})
}
