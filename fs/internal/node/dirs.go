package node

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/tree"
)

// dirHandle is an open directory.
type dirHandle struct {
	mu   sync.Mutex // orders the readers of one handle
	list *tree.Listing
}

// OpenDir implements OPENDIR. The kernel may keep the listing until the directory
// changes.
func (fs *FS) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	fs.counts.add("opendir")
	n := fs.inode(in.NodeId)
	if n == nil {
		return enoent
	}
	l, err := fs.tree.OpenDir(n)
	if err != nil {
		return status(err)
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.lastFh++
	fs.dirs[fs.lastFh] = &dirHandle{list: l}
	out.Fh = fs.lastFh
	if !fs.shared {
		out.OpenFlags = fuse.FOPEN_CACHE_DIR
		if !n.StaleList.Swap(false) {
			out.OpenFlags |= fuse.FOPEN_KEEP_CACHE
		}
	}
	return fuse.OK
}

func (fs *FS) dir(fh uint64) *dirHandle {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.dirs[fh]
}

// ReleaseDir implements RELEASEDIR.
func (fs *FS) ReleaseDir(in *fuse.ReleaseIn) {
	fs.counts.add("releasedir")
	fs.mu.Lock()
	h := fs.dirs[in.Fh]
	delete(fs.dirs, in.Fh)
	fs.mu.Unlock()
	if h != nil {
		h.list.Close()
	}
}

// ReadDir implements READDIR.
func (fs *FS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	fs.counts.add("readdir")
	return fs.list(in, func(l *tree.Listing) error {
		err := l.Look(0)
		defer l.Done()
		if err != nil {
			return err
		}
		return each(l, func(e tree.Entry) bool { return out.AddDirEntry(dirEntry(e)) })
	})
}

// ReadDirPlus implements READDIRPLUS: attributes come with entries that the kernel
// does not hold yet.
func (fs *FS) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	fs.counts.add("readdirplus")
	return fs.list(in, func(l *tree.Listing) error {
		err := l.Look(int(in.Size))
		defer l.Done()
		if err != nil {
			return err
		}
		return each(l, func(e tree.Entry) bool {
			entry := out.AddDirLookupEntry(dirEntry(e))
			if entry == nil {
				return false
			}
			if n, ok := l.Node(e); ok {
				fs.entry(entry, n)
			}
			return true
		})
	})
}

func dirEntry(e tree.Entry) fuse.DirEntry {
	return fuse.DirEntry{Name: e.Name, Ino: e.Ino, Mode: e.Type, Off: e.Next}
}

// list calls answer with the listing of a handle, at the offset that is asked for.
func (fs *FS) list(in *fuse.ReadIn, answer func(*tree.Listing) error) fuse.Status {
	h := fs.dir(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	err := h.list.Seek(in.Offset)
	if err == nil {
		err = answer(h.list)
	}
	return status(err)
}

// each hands entries to add until it has no room.
func each(l *tree.Listing, add func(tree.Entry) bool) error {
	for {
		e, ok, err := l.Peek()
		if err != nil || !ok || !add(e) {
			return err
		}
		l.Skip()
	}
}

// FsyncDir implements FSYNCDIR.
func (fs *FS) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	fs.counts.add("fsyncdir")
	n := fs.inode(in.NodeId)
	if n == nil {
		return enoent
	}
	return status(fs.tree.SyncDir(n))
}
