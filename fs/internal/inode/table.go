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

// MaxLinks is how many names one file can get in the view. All of them are remembered
// as long as the kernel knows the inode: it may go on to use any, when the others are
// gone. Of a file that has more in the store the oldest are forgotten.
const MaxLinks = 16384

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
	byKey  map[key]*Inode
	inos   map[uint64]int // view numbers in use that no longer are the lower one's
	last   uint64         // newest node id
	moves  uint64         // renames of directories so far
	reaped []*Inode       // removed, to be closed by unlock
}

// NewTable makes a table whose root is the open directory dir, with identity st;
// it takes over the caller's count of dir. At most descriptors file descriptors
// are kept open for inodes that nobody has open.
func NewTable(dir *backing.Dir, st backing.Stat, policy *route.Policy, descriptors int) *Table {
	t := &Table{Cache: NewCache(descriptors), byID: map[uint64]*Inode{}, byKey: map[key]*Inode{}, inos: map[uint64]int{}, last: RootID}
	t.Root = &Inode{ID: RootID, Ino: st.Ino, Type: unix.S_IFDIR, id: st, lookups: 1}
	t.Root.open.dir = dir
	t.Root.open.pinned = true
	t.Root.route.Store(&routed{dir: policy.Root()})
	t.byID[RootID] = t.Root
	t.Root.key = key{Key: st.Key()}
	t.byKey[t.Root.key] = t.Root
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
	n := t.findLocked(st, a.Stored, a.Parent)
	if n == nil {
		n = t.addLocked(st, a.Stored, a.Parent)
	}
	n.lookups++
	t.aliasLocked(n, a, st.Nlink)
	return n
}

// Known returns the inode of the entry s of parent, with state st, if the table holds
// it, or nil.
func (t *Table) Known(parent *Inode, st *backing.Stat, s names.Stored) *Inode {
	t.mu.Lock()
	defer t.unlock()
	return t.findLocked(st, s, parent)
}

// KernelHolds reports whether the kernel knows the file of lower identity low under the
// stored name s in directory parent.
func (t *Table) KernelHolds(low backing.Key, parent *Inode, s names.Stored) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byKey[t.keyLocked(low, s, parent)]
	if n == nil || n.lookups == 0 {
		return false
	}
	for _, a := range n.aliases {
		if a.Parent == parent && a.Stored.Name == s.Name {
			return true
		}
	}
	return false
}

// Ino returns the view number of the entry s of parent that a listing of the store
// shows with the lower identity low.
func (t *Table) Ino(low backing.Key, parent *Inode, s names.Stored) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.byKey[t.keyLocked(low, s, parent)]; n != nil {
		return n.Ino
	}
	if t.inos[low.Ino] > 0 {
		return low.Ino | shifted
	}
	return low.Ino
}

// Device returns the device number of the root.
func (t *Table) Device() uint64 { return t.Root.id.Dev }

func (t *Table) findLocked(st *backing.Stat, s names.Stored, parent *Inode) *Inode {
	n := t.byKey[t.keyLocked(st.Key(), s, parent)]
	if n == nil || n.id.Same(st) && (st.Type() != unix.S_IFREG || n.sealed == s.Kind.Sealed() && n.broken == s.Kind.Broken()) {
		return n
	}
	t.detachLocked(n) // the number was used again, or a plain link to a sealed file
	return nil
}

func (t *Table) addLocked(st *backing.Stat, s names.Stored, parent *Inode) *Inode {
	t.last++
	n := &Inode{ID: t.last, Ino: st.Ino, Type: st.Type(), id: *st, sealed: s.Kind.Sealed(), broken: s.Kind.Broken()}
	if t.inos[st.Ino] > 0 {
		n.Ino |= shifted
	}
	t.byID[n.ID] = n
	n.key = t.keyLocked(st.Key(), s, parent)
	t.byKey[n.key] = n
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

// Hold counts one lookup of n, which Forget takes back.
func (t *Table) Hold(n *Inode) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.lookups++
}

// All returns the inodes that the table holds.
func (t *Table) All() []*Inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Values(t.byID))
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
	if b := n.Box.Load(); b != nil && d.Box() {
		if m := b.Mailbox.Load(); m != nil {
			d = d.As(m)
		}
	}
	n.route.Store(&routed{dir: d, moves: t.moves})
	return d
}

// SetMailbox says what the header in directory n, which has a Box, tells.
func (t *Table) SetMailbox(n *Inode, m *route.Mailbox) {
	t.mu.Lock()
	defer t.unlock()
	before := t.routeLocked(n).User()
	if n.Box.Load().Mailbox.Swap(m) != nil {
		t.moves++ // what is below it may have another owner
	} else {
		n.route.Store(nil)
	}
	if t.routeLocked(n).User() != before && n.children > 0 {
		t.handOverLocked(n)
	}
}

// detachLocked makes n unreachable by its lower identity.
func (t *Table) detachLocked(n *Inode) {
	if n.detached {
		return
	}
	n.detached = true
	delete(t.byKey, n.key)
}

// goneLocked reports whether n has left the table. The kernel forgets when it likes, so
// this can happen to what Known has returned, with whatever locks held: what is known of
// n must not come back then, as its lower number may be another file's by now.
func (t *Table) goneLocked(n *Inode) bool { return t.byID[n.ID] != n }

// reapLocked removes n when nobody refers to it any more.
func (t *Table) reapLocked(n *Inode) {
	if n == t.Root || n.lookups > 0 || n.children > 0 || t.goneLocked(n) {
		return
	}
	delete(t.byID, n.ID)
	if n.moved {
		if t.inos[n.Ino]--; t.inos[n.Ino] == 0 {
			delete(t.inos, n.Ino)
		}
	}
	t.detachLocked(n)
	t.dropAliasesLocked(n)
	t.unbornLocked(n)
	t.reaped = append(t.reaped, n)
}

// Close closes every descriptor. No request may be under way or come any more.
func (t *Table) Close() {
	for _, n := range t.All() {
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
