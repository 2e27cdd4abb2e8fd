package inode

import (
	"sync"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
)

// Content is the shared content of a regular file that is open.
type Content interface {
	// ReadAt and WriteAt move plaintext; Truncate sets the plaintext size. See
	// package content for what they promise.
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Truncate(size int64) error
	// Length returns the plaintext size in bytes. After an error nothing is known of it:
	// whoever took the file for an empty one would lose what it holds.
	Length() (int64, error)
	// Sync makes the content durable.
	Sync(dataOnly bool) error
}

// open is what an inode holds open: for a directory its descriptor, for a regular
// file its descriptor and content.
type open struct {
	mu      sync.Mutex
	dir     *backing.Dir
	file    *backing.File
	content Content
	handles int  // open handles of the kernel
	pinned  bool // removed, or the root: the descriptor is the only way to it
	stale   bool // its key is gone: close with the last handle
	cached  bool // in the cache of idle descriptors
	dead    bool // reaped: nothing may be opened any more
}

// Opener opens the stored file and its content.
type Opener func() (*backing.File, Content, error)

// AcquireOpen is Acquire for a file whose content is open already; ok is false for
// any other.
func (n *Inode) AcquireOpen(c *Cache) (content Content, ok bool) {
	n.open.mu.Lock()
	defer n.open.mu.Unlock()
	if n.open.content == nil || n.open.stale {
		return nil, false
	}
	n.countLocked(c)
	return n.open.content, true
}

func (n *Inode) countLocked(c *Cache) {
	n.open.handles++
	if n.open.cached {
		c.remove(n)
		n.open.cached = false
	}
}

// Acquire returns the content of regular file n for a new handle, opening it if
// need be, and counts the handle. Release gives it back. o is called with the
// lock of n's descriptor held.
func (n *Inode) Acquire(c *Cache, o Opener) (Content, error) {
	n.open.mu.Lock()
	defer n.open.mu.Unlock()
	if err := n.ensureLocked(o); err != nil {
		return nil, err
	}
	n.countLocked(c)
	return n.open.content, nil
}

func (n *Inode) ensureLocked(o Opener) error {
	if n.open.content != nil && !n.open.stale {
		return nil
	}
	f, content, err := o()
	if err != nil {
		return err // of a stale one: only the handles that are open go on
	}
	n.open.stale = false
	if n.open.content != nil { // the key came back while handles were open
		return f.Close()
	}
	if n.open.file != nil { // pinned without content
		_ = n.open.file.Close()
	}
	n.open.file, n.open.content = f, content
	return nil
}

// Adopt gives a new inode the file that was just created for it, with one handle.
func (n *Inode) Adopt(f *backing.File, c Content) {
	n.open.mu.Lock()
	defer n.open.mu.Unlock()
	n.open.file, n.open.content, n.open.handles = f, c, n.open.handles+1
}

// AdoptUnnamed is Adopt for a file without a name, which nobody can open again.
func (n *Inode) AdoptUnnamed(f *backing.File, c Content) {
	n.Adopt(f, c)
	n.open.mu.Lock()
	defer n.open.mu.Unlock()
	n.open.pinned = true
}

// Release gives back a handle. The last one leaves the file to the cache of idle
// descriptors, or closes it. It returns true if the key of the file is gone, so that
// nothing of its content may stay cached.
func (n *Inode) Release(c *Cache) (stale bool) {
	n.open.mu.Lock()
	n.open.handles--
	if n.open.handles > 0 || n.open.pinned && !n.open.dead {
		n.open.mu.Unlock()
		return false
	}
	if n.open.stale || n.open.dead || !c.enabled() {
		stale = n.open.stale
		n.closeLocked()
		n.open.mu.Unlock()
		return stale
	}
	n.open.cached = true
	n.open.mu.Unlock()
	c.add(n)
	return false
}

// Handles returns how many handles of n the kernel has open.
func (n *Inode) Handles() int {
	n.open.mu.Lock()
	defer n.open.mu.Unlock()
	return n.open.handles
}

// Content returns the content of n if it is open, for a call on an open handle.
func (n *Inode) Content() Content {
	n.open.mu.Lock()
	defer n.open.mu.Unlock()
	return n.open.content
}

// WithFile runs f with the stored file if it is open and reports whether it was.
func (n *Inode) WithFile(f func(*backing.File, Content) error) (bool, error) {
	n.open.mu.Lock()
	defer n.open.mu.Unlock()
	if n.open.file == nil {
		return false, nil
	}
	return true, f(n.open.file, n.open.content)
}

// Pin makes sure that n stays reachable after its last name is gone: a file that
// is open stays open, another is opened by o. The file is closed when the kernel
// has forgotten the inode.
func (n *Inode) Pin(c *Cache, o Opener) error {
	n.open.mu.Lock()
	defer n.open.mu.Unlock()
	if n.open.file == nil && n.open.dir == nil {
		f, content, err := o()
		if err != nil {
			return err
		}
		n.open.file, n.open.content = f, content
	}
	n.open.pinned = true
	c.remove(n)
	return nil
}

// PinDir is Pin for a directory.
func (n *Inode) PinDir(c *Cache, o func() (*backing.Dir, error)) error {
	d, err := n.Dir(c, o)
	if err != nil {
		return err
	}
	defer d.Release()
	n.open.mu.Lock()
	defer n.open.mu.Unlock()
	if n.open.dir == nil { // evicted in between
		n.open.dir = d.Retain()
	}
	n.open.pinned, n.open.cached = true, false
	c.remove(n)
	return nil
}

// Unpin undoes Pin after a removal that failed.
func (n *Inode) Unpin() {
	n.open.mu.Lock()
	defer n.open.mu.Unlock()
	n.open.pinned = false
	if n.open.handles == 0 {
		n.closeLocked()
	}
}

// Expire drops the content of n, whose key is gone: now if nobody has it open,
// else with the last handle.
func (n *Inode) Expire() {
	n.open.mu.Lock()
	defer n.open.mu.Unlock()
	if n.open.content == nil {
		return
	}
	n.open.stale = true
	if n.open.handles == 0 && !n.open.pinned {
		n.closeLocked()
	}
}

// Dir returns the descriptor of directory n with a count for the caller, opened
// by o if need be.
func (n *Inode) Dir(c *Cache, o func() (*backing.Dir, error)) (*backing.Dir, error) {
	n.open.mu.Lock()
	if d := n.open.dir; d != nil {
		d.Retain()
		n.open.mu.Unlock()
		c.touch(n)
		return d, nil
	}
	n.open.mu.Unlock()
	d, err := o() // walks up: no lock may be held
	if err != nil {
		return nil, err
	}
	n.open.mu.Lock()
	defer n.open.mu.Unlock()
	if n.open.dir == nil && !n.open.dead {
		n.open.dir = d.Retain()
		if !n.open.pinned {
			n.open.cached = true
			defer c.add(n)
		}
	}
	return d, nil
}

// Retire closes the descriptor of a file that is about to be replaced by another
// with the same content; it returns false, and does nothing, while somebody has
// the file open.
func (n *Inode) Retire(c *Cache) bool {
	n.open.mu.Lock()
	defer n.open.mu.Unlock()
	if n.open.handles > 0 {
		return false
	}
	c.remove(n)
	n.closeLocked()
	return true
}

// evict closes an idle descriptor; the cache has forgotten n already.
func (n *Inode) evict() {
	n.open.mu.Lock()
	defer n.open.mu.Unlock()
	if n.open.cached && n.open.handles == 0 && !n.open.pinned {
		n.closeLocked()
	}
}

// close closes everything when n has left the table.
func (n *Inode) close(c *Cache) {
	c.remove(n)
	n.open.mu.Lock()
	defer n.open.mu.Unlock()
	n.open.dead = true
	if n.open.handles == 0 {
		n.closeLocked()
	}
}

func (n *Inode) closeLocked() {
	n.open.cached = false
	if n.open.dir != nil {
		n.open.dir.Release()
		n.open.dir = nil
	}
	if n.open.file != nil {
		_ = n.open.file.Close()
		n.open.file, n.open.content = nil, nil
	}
}
