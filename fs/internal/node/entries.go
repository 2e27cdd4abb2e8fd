package node

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/tree"
)

func newEntry(h *fuse.InHeader, name string, mode uint32) tree.NewEntry {
	return tree.NewEntry{Name: name, Mode: mode, Owner: backing.Owner{UID: h.Uid, GID: h.Gid}}
}

// made fills the reply to a request that made an entry.
func (fs *FS) made(out *fuse.EntryOut, n tree.Node, err error) fuse.Status {
	if err == nil {
		fs.entry(out, n)
	}
	return status(err)
}

// Mknod implements MKNOD.
func (fs *FS) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	fs.counts.add("mknod")
	p := fs.inode(in.NodeId)
	if p == nil {
		return enoent
	}
	n, err := fs.tree.Make(p, newEntry(&in.InHeader, name, in.Mode))
	return fs.made(out, n, err)
}

// Mkdir implements MKDIR.
func (fs *FS) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	fs.counts.add("mkdir")
	p := fs.inode(in.NodeId)
	if p == nil {
		return enoent
	}
	n, err := fs.tree.Make(p, newEntry(&in.InHeader, name, in.Mode&0o7777|unix.S_IFDIR))
	return fs.made(out, n, err)
}

// Symlink implements SYMLINK.
func (fs *FS) Symlink(_ <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	fs.counts.add("symlink")
	p := fs.inode(h.NodeId)
	if p == nil {
		return enoent
	}
	n, err := fs.tree.Symlink(p, newEntry(h, name, 0), target)
	return fs.made(out, n, err)
}

// Readlink implements READLINK.
func (fs *FS) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	fs.counts.add("readlink")
	n := fs.inode(h.NodeId)
	if n == nil {
		return nil, enoent
	}
	target, err := fs.tree.Readlink(n)
	return []byte(target), status(err)
}

// Unlink implements UNLINK.
func (fs *FS) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	fs.counts.add("unlink")
	p := fs.inode(h.NodeId)
	if p == nil {
		return enoent
	}
	return status(fs.tree.Unlink(p, name))
}

// Rmdir implements RMDIR.
func (fs *FS) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	fs.counts.add("rmdir")
	p := fs.inode(h.NodeId)
	if p == nil {
		return enoent
	}
	return status(fs.tree.Rmdir(p, name))
}

// Rename implements RENAME and RENAME2.
func (fs *FS) Rename(_ <-chan struct{}, in *fuse.RenameIn, name, newName string) fuse.Status {
	fs.counts.add("rename")
	p, q := fs.inode(in.NodeId), fs.inode(in.Newdir)
	if p == nil || q == nil {
		return enoent
	}
	return status(fs.tree.Rename(p, name, q, newName, in.Flags))
}

// Link implements LINK.
func (fs *FS) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	fs.counts.add("link")
	n, q := fs.inode(in.Oldnodeid), fs.inode(in.NodeId)
	if n == nil || q == nil {
		return enoent
	}
	node, err := fs.tree.Link(n, q, name)
	return fs.made(out, node, err)
}
