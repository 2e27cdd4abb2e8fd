package node

import (
	"errors"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/tree"
)

// openFlags of every regular file: its pages stay cached between opens, and are
// dropped by DropPages when its key goes.
const openFlags = fuse.FOPEN_KEEP_CACHE

// Create implements CREATE.
func (fs *FS) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	fs.counts.add("create")
	p := fs.inode(in.NodeId)
	if p == nil {
		return enoent
	}
	n, err := fs.tree.Create(p, newEntry(&in.InHeader, name, in.Mode&0o7777|unix.S_IFREG))
	if errors.Is(err, unix.EEXIST) && in.Flags&unix.O_EXCL == 0 {
		n, err = fs.openExisting(p.ID, name)
	}
	if err == nil {
		fs.entry(&out.EntryOut, n)
		out.OpenFlags = fs.flags()
	}
	return status(err)
}

// Tmpfile implements TMPFILE.
func (fs *FS) Tmpfile(_ <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	fs.counts.add("tmpfile")
	p := fs.inode(in.NodeId)
	if p == nil {
		return enoent
	}
	n, err := fs.tree.Tmpfile(p, newEntry(&in.InHeader, "", in.Mode&0o7777|unix.S_IFREG))
	if err == nil {
		fs.entry(&out.EntryOut, n)
		out.OpenFlags = fs.flags()
	}
	return status(err)
}

// openExisting opens a file that somebody else made since the kernel looked.
func (fs *FS) openExisting(parent uint64, name string) (tree.Node, error) {
	n, err := fs.tree.Lookup(fs.inode(parent), name)
	if err != nil {
		return n, err
	}
	if n.Type != unix.S_IFREG {
		err = unix.EEXIST
	} else {
		_, err = fs.tree.Open(n.Inode)
	}
	if err != nil {
		fs.tree.Forget(n.ID, 1)
	}
	return n, err
}

func (fs *FS) flags() uint32 {
	if fs.shared {
		return 0
	}
	return openFlags
}

// Open implements OPEN. The content of a locked user's file is refused here, and
// only here, with EACCES.
func (fs *FS) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	fs.counts.add("open")
	n := fs.inode(in.NodeId)
	if n == nil {
		return enoent
	}
	_, err := fs.tree.Open(n)
	out.OpenFlags = fs.flags()
	return status(err)
}

// Release implements RELEASE.
func (fs *FS) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	fs.counts.add("release")
	n := fs.inode(in.NodeId)
	if n != nil && fs.tree.Release(n) {
		go fs.DropPages([]uint64{n.ID}) // apart: the kernel may hold the inode
	}
}

// Read implements READ.
func (fs *FS) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	fs.counts.add("read")
	n := fs.inode(in.NodeId)
	if n == nil {
		return nil, enoent
	}
	c := n.Content()
	if c == nil {
		return nil, fuse.EBADF
	}
	got, err := c.ReadAt(buf, int64(in.Offset))
	if err != nil { // never a short reply: the kernel would take it for the end of the file
		return nil, status(fs.tree.Alert(n, err))
	}
	return fuse.ReadResultData(buf[:got]), fuse.OK
}

// Write implements WRITE.
func (fs *FS) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	fs.counts.add("write")
	n := fs.inode(in.NodeId)
	if n == nil {
		return 0, enoent
	}
	c := n.Content()
	if c == nil {
		return 0, fuse.EBADF
	}
	done, err := c.WriteAt(data, int64(in.Offset))
	if err != nil && done == 0 {
		return 0, status(fs.tree.Alert(n, err))
	}
	if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
		if err := fs.tree.ClearSetID(n); err != nil {
			return 0, status(err)
		}
	}
	return uint32(done), fuse.OK
}

// Flush implements FLUSH, which comes with each close(2). A local store has nothing to
// do then, and the kernel stops asking after ENOSYS; a shared one may.
func (fs *FS) Flush(_ <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	fs.counts.add("flush")
	n := fs.inode(in.NodeId)
	switch {
	case !fs.shared:
		return fuse.ENOSYS
	case n == nil:
		return enoent
	}
	return status(fs.tree.Flush(n))
}

// Fsync implements FSYNC.
func (fs *FS) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	fs.counts.add("fsync")
	n := fs.inode(in.NodeId)
	if n == nil {
		return enoent
	}
	c := n.Content()
	if c == nil {
		return fuse.EBADF
	}
	const dataOnly = 1 // FUSE_FSYNC_FDATASYNC
	return status(c.Sync(in.FsyncFlags&dataOnly != 0))
}

// Fallocate implements FALLOCATE: reserving space, or growing the file by zeros.
// Holes cannot be made.
func (fs *FS) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	fs.counts.add("fallocate")
	n := fs.inode(in.NodeId)
	if n == nil {
		return enoent
	}
	return status(fs.tree.Fallocate(n, int64(in.Offset), int64(in.Length), in.Mode))
}

// Lseek implements LSEEK: a file is all data, with the hole at its end.
func (fs *FS) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	fs.counts.add("lseek")
	n := fs.inode(in.NodeId)
	if n == nil {
		return enoent
	}
	a, err := fs.tree.Attr(n)
	switch {
	case err != nil:
		return status(err)
	case in.Offset >= uint64(a.Size):
		return fuse.Status(unix.ENXIO)
	case in.Whence == unix.SEEK_DATA:
		out.Offset = in.Offset
	case in.Whence == unix.SEEK_HOLE:
		out.Offset = uint64(a.Size)
	default:
		return fuse.EINVAL
	}
	return fuse.OK
}

// Ioctl implements IOCTL: there is none, and nothing is passed on to the store.
func (fs *FS) Ioctl(_ <-chan struct{}, _ *fuse.IoctlIn, _ []byte, _ *fuse.IoctlOut, _ []byte) fuse.Status {
	return fuse.Status(unix.ENOTTY)
}
