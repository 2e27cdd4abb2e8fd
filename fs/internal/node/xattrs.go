package node

import (
	"github.com/hanwen/go-fuse/v2/fuse"
)

// answer copies an attribute or a list of names into dest (getxattr(2)).
func answer(dest, value []byte, err error) (uint32, fuse.Status) {
	switch {
	case err != nil:
		return 0, status(err)
	case len(value) > len(dest):
		return uint32(len(value)), fuse.ERANGE
	}
	return uint32(copy(dest, value)), fuse.OK
}

// GetXAttr implements GETXATTR.
func (fs *FS) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	fs.counts.add("getxattr")
	n := fs.inode(h.NodeId)
	if n == nil {
		return 0, enoent
	}
	value, err := fs.tree.GetXAttr(n, name)
	return answer(dest, value, err)
}

// ListXAttr implements LISTXATTR.
func (fs *FS) ListXAttr(_ <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	fs.counts.add("listxattr")
	n := fs.inode(h.NodeId)
	if n == nil {
		return 0, enoent
	}
	list, err := fs.tree.ListXAttr(n)
	return answer(dest, list, err)
}

// SetXAttr implements SETXATTR.
func (fs *FS) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	fs.counts.add("setxattr")
	n := fs.inode(in.NodeId)
	if n == nil {
		return enoent
	}
	return status(fs.tree.SetXAttr(n, name, value, int(in.Flags)))
}

// RemoveXAttr implements REMOVEXATTR.
func (fs *FS) RemoveXAttr(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	fs.counts.add("removexattr")
	n := fs.inode(h.NodeId)
	if n == nil {
		return enoent
	}
	return status(fs.tree.RemoveXAttr(n, name))
}
