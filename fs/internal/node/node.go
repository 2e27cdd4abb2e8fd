// Package node translates FUSE requests into calls of package tree and their
// results into replies. It is the only package that imports go-fuse. A handler
// finds the inode, makes one call, fills the reply and maps the error; it holds no
// lock and knows no key.
package node

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/tree"
)

// FS serves one view. It implements fuse.RawFileSystem.
type FS struct {
	fuse.RawFileSystem // answers ENOSYS to what is not below: the kernel then stops asking

	tree   *tree.Tree
	log    *slog.Logger
	ttl    time.Duration
	shared bool // others change the store too: cache nothing for long
	server *fuse.Server
	counts counters

	mu     sync.Mutex // guards dirs and lastFh
	dirs   map[uint64]*dirHandle
	lastFh uint64
}

// Cache lifetimes in the kernel. The daemon is the only writer of its store and
// invalidates what it changes itself; with a shared store it is not.
const (
	aloneTTL  = 24 * time.Hour
	sharedTTL = time.Second
)

// New returns a file system over t. shared says that other hosts change the store.
func New(t *tree.Tree, log *slog.Logger, shared bool) *FS {
	fs := &FS{RawFileSystem: fuse.NewDefaultRawFileSystem(), tree: t, log: log, ttl: aloneTTL, shared: shared, dirs: map[uint64]*dirHandle{}}
	if shared {
		fs.ttl = sharedTTL
	}
	return fs
}

// String names the file system in go-fuse's messages.
func (fs *FS) String() string { return "mailcryptfs" }

// Init keeps the server, to invalidate caches through it.
func (fs *FS) Init(s *fuse.Server) { fs.server = s }

// Panicked logs a panic of a handler: that request gets EIO, all others go on.
func (fs *FS) Panicked(v any) fuse.Status {
	fs.log.Error("a request failed by a mistake of mailcryptfs: please report it", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	return fuse.EIO
}

// DropPages makes the kernel drop what it caches of the inodes' content. It must not
// be called from a handler of the same inode.
func (fs *FS) DropPages(ids []uint64) {
	for _, id := range ids {
		fs.server.InodeNotify(id, 0, 0) // ENOENT: the kernel has forgotten it
	}
}

// DropEntry makes the kernel look up a name in a directory again. It must not be
// called from a handler of the same directory.
func (fs *FS) DropEntry(dir uint64, name string) { fs.server.EntryNotify(dir, name) }

func (fs *FS) inode(id uint64) *inode.Inode { return fs.tree.Table.Get(id) }

func status(err error) fuse.Status { return fuse.Status(tree.Errno(err)) }

// enoent answers requests about inodes that the kernel should have forgotten.
const enoent = fuse.ENOENT

func (fs *FS) entry(out *fuse.EntryOut, n tree.Node) {
	out.NodeId, out.Generation = n.ID, 1
	out.SetEntryTimeout(fs.ttl)
	out.SetAttrTimeout(fs.ttl)
	fill(&out.Attr, n.Attr)
}

func fill(out *fuse.Attr, a tree.Attr) {
	out.Ino, out.Size, out.Blocks = a.Ino, uint64(a.Size), uint64(a.Blocks)
	out.Atime, out.Atimensec = uint64(a.Atime.Sec), a.Atime.Nsec
	out.Mtime, out.Mtimensec = uint64(a.Mtime.Sec), a.Mtime.Nsec
	out.Ctime, out.Ctimensec = uint64(a.Ctime.Sec), a.Ctime.Nsec
	out.Mode, out.Nlink, out.Uid, out.Gid = a.Mode, a.Nlink, a.UID, a.GID
	out.Rdev, out.Blksize = a.Rdev, 4096
}

// Lookup implements LOOKUP. The absence of a name is cached too.
func (fs *FS) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	fs.counts.add("lookup")
	p := fs.inode(h.NodeId)
	if p == nil {
		return enoent
	}
	n, err := fs.tree.Lookup(p, name)
	if tree.Errno(err) == unix.ENOENT && !fs.shared {
		out.SetEntryTimeout(fs.ttl) // node id 0: there is no such name
		return fuse.OK
	}
	if err == nil {
		fs.entry(out, n)
	}
	return status(err)
}

// Forget implements FORGET.
func (fs *FS) Forget(id, count uint64) {
	fs.counts.add("forget")
	fs.tree.Forget(id, count)
}

// GetAttr implements GETATTR.
func (fs *FS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	fs.counts.add("getattr")
	n := fs.inode(in.NodeId)
	if n == nil {
		return enoent
	}
	a, err := fs.tree.Attr(n)
	if err == nil {
		fill(&out.Attr, a)
		out.SetTimeout(fs.ttl)
	}
	return status(err)
}

// SetAttr implements SETATTR.
func (fs *FS) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	fs.counts.add("setattr")
	n := fs.inode(in.NodeId)
	if n == nil {
		return enoent
	}
	a, err := fs.tree.SetAttr(n, changeOf(in))
	if err == nil {
		fill(&out.Attr, a)
		out.SetTimeout(fs.ttl)
	}
	return status(err)
}

// StatFs implements STATFS.
func (fs *FS) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	fs.counts.add("statfs")
	s, err := fs.tree.Statfs()
	out.Blocks, out.Bfree, out.Bavail = s.Blocks, s.Bfree, s.Bavail
	out.Files, out.Ffree = s.Files, s.Ffree
	out.Bsize, out.Frsize, out.NameLen = uint32(s.Bsize), uint32(s.Frsize), 255
	return status(err)
}
