package inode

import (
	"maps"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/route"
)

// maxAliases bounds the names that are remembered of one inode. A file with more
// links keeps the newest: one name is enough to reach it.
const maxAliases = 16

// shifted is set in the view number of a file whose lower number belonged to one that
// was converted, and that the kernel still knows by it.
const shifted = 1 << 62

// Table holds the inodes of one view. It is safe for concurrent use.
type Table struct {
	Root  *Inode
	Cache *Cache
	// Reaped, if set, is called without locks for each inode that has left the table.
	Reaped func(*Inode)

	mu     sync.Mutex
	byID   map[uint64]*Inode
	byKey  map[backing.Key]*Inode
	inos   map[uint64]int // view numbers in use that no longer are the lower one's
	last   uint64         // newest node id
	moves  uint64         // renames of directories so far
	reaped []*Inode       // removed, to be closed by unlock
}

// NewTable makes a table whose root is the open directory dir, with identity st;
// it takes over the caller's count of dir. At most descriptors file descriptors
// are kept open for inodes that nobody has open.
func NewTable(dir *backing.Dir, st backing.Stat, policy *route.Policy, descriptors int) *Table {
	t := &Table{Cache: NewCache(descriptors), byID: map[uint64]*Inode{}, byKey: map[backing.Key]*Inode{}, inos: map[uint64]int{}, last: RootID}
	t.Root = &Inode{ID: RootID, Ino: st.Ino, Type: unix.S_IFDIR, id: st, lookups: 1}
	t.Root.open.dir = dir
	t.Root.open.pinned = true
	t.Root.route.Store(&routed{dir: policy.Root()})
	t.byID[RootID] = t.Root
	t.byKey[st.Key()] = t.Root
	return t
}

// Get returns the inode with node id id, or nil.
func (t *Table) Get(id uint64) *Inode {
	if id == RootID {
		return t.Root
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byID[id]
}

// Len returns how many inodes the table holds.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byID)
}

// Ref returns the inode of the entry a with state st, making it if need be, and
// counts one lookup of the kernel.
func (t *Table) Ref(st *backing.Stat, a Alias) *Inode {
	t.mu.Lock()
	defer t.unlock()
	n := t.findLocked(st, a.Stored)
	if n == nil {
		n = t.addLocked(st, a.Stored)
	}
	n.lookups++
	t.aliasLocked(n, a, st.Nlink)
	return n
}

// Known returns the inode of an entry with state st if the table holds it, or nil.
func (t *Table) Known(st *backing.Stat, s names.Stored) *Inode {
	t.mu.Lock()
	defer t.unlock()
	return t.findLocked(st, s)
}

// KernelHolds reports whether the kernel knows the lower inode number ino under
// the stored name in directory parent.
func (t *Table) KernelHolds(key backing.Key, parent *Inode, stored string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byKey[key]
	if n == nil || n.lookups == 0 {
		return false
	}
	for _, a := range n.aliases {
		if a.Parent == parent && a.Stored.Name == stored {
			return true
		}
	}
	return false
}

// Ino returns the view number of the entry that a listing of the store shows with
// the lower number of key.
func (t *Table) Ino(key backing.Key) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.byKey[key]; n != nil {
		return n.Ino
	}
	if t.inos[key.Ino] > 0 {
		return key.Ino | shifted
	}
	return key.Ino
}

// Device returns the device number of the root.
func (t *Table) Device() uint64 { return t.Root.id.Dev }

func (t *Table) findLocked(st *backing.Stat, s names.Stored) *Inode {
	n := t.byKey[st.Key()]
	if n == nil || n.id.Same(st) && (st.Type() != unix.S_IFREG || n.sealed == s.Kind.Sealed() && n.broken == s.Kind.Broken()) {
		return n
	}
	t.detachLocked(n) // the number was used again, or a plain link to a sealed file
	return nil
}

func (t *Table) addLocked(st *backing.Stat, s names.Stored) *Inode {
	t.last++
	n := &Inode{ID: t.last, Ino: st.Ino, Type: st.Type(), id: *st, sealed: s.Kind.Sealed(), broken: s.Kind.Broken()}
	if t.inos[st.Ino] > 0 {
		n.Ino |= shifted
	}
	t.byID[n.ID] = n
	t.byKey[st.Key()] = n
	return n
}

// Sealed reports whether the content of n is encrypted, and whether its name is
// broken (N9).
func (t *Table) Sealed(n *Inode) (sealed, broken bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return n.sealed, n.broken
}

// Same reports whether st describes the lower inode of n.
func (t *Table) Same(n *Inode, st *backing.Stat) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return n.id.Same(st)
}

// Forget takes back count lookups of the inode with node id id.
func (t *Table) Forget(id, count uint64) {
	t.mu.Lock()
	defer t.unlock()
	n := t.byID[id]
	if n == nil || n == t.Root {
		return
	}
	n.lookups -= min(count, n.lookups)
	t.reapLocked(n)
}

// Moved says that a directory got another path.
func (t *Table) Moved() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.moves++
}

// Route returns the place of directory n in the policy.
func (t *Table) Route(n *Inode) *route.Dir {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.routeLocked(n)
}

func (t *Table) routeLocked(n *Inode) *route.Dir {
	r := n.route.Load()
	if n == t.Root || r != nil && (r.moves == t.moves || len(n.aliases) == 0) {
		return r.dir
	}
	if len(n.aliases) == 0 {
		return t.Root.route.Load().dir // removed before anybody asked: nobody's
	}
	a := n.aliases[len(n.aliases)-1]
	d := t.routeLocked(a.Parent).Child(a.Name)
	n.route.Store(&routed{dir: d, moves: t.moves})
	return d
}

// detachLocked makes n unreachable by its lower identity.
func (t *Table) detachLocked(n *Inode) {
	if n.detached {
		return
	}
	n.detached = true
	delete(t.byKey, n.id.Key())
}

// reapLocked removes n when nobody refers to it any more.
func (t *Table) reapLocked(n *Inode) {
	if n == t.Root || n.lookups > 0 || n.children > 0 || t.byID[n.ID] == nil {
		return
	}
	delete(t.byID, n.ID)
	if n.moved {
		if t.inos[n.Ino]--; t.inos[n.Ino] == 0 {
			delete(t.inos, n.Ino)
		}
	}
	if !n.detached {
		delete(t.byKey, n.id.Key())
	}
	t.dropAliasesLocked(n)
	t.unbornLocked(n)
	t.reaped = append(t.reaped, n)
}

// Close closes every descriptor. No request may be under way or come any more.
func (t *Table) Close() {
	t.mu.Lock()
	all := slices.Collect(maps.Values(t.byID))
	t.mu.Unlock()
	for _, n := range all {
		n.close(t.Cache)
	}
}

// unlock ends a change and closes what it has removed from the table.
func (t *Table) unlock() {
	gone := t.reaped
	t.reaped = nil
	t.mu.Unlock()
	for _, n := range gone {
		n.close(t.Cache)
		if t.Reaped != nil {
			t.Reaped(n)
		}
	}
}
