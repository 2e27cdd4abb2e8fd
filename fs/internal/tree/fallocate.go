package tree

import (
	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
)

// Fallocate reserves space for the bytes off to off+length of n, which is open, and
// without FALLOC_FL_KEEP_SIZE grows it to that size. Other modes are
// unix.EOPNOTSUPP: an encrypted file has no holes.
func (t *Tree) Fallocate(n *inode.Inode, off, length int64, mode uint32) error {
	if mode&^unix.FALLOC_FL_KEEP_SIZE != 0 {
		return unix.EOPNOTSUPP
	}
	c := n.Content()
	if c == nil {
		return unix.EBADF
	}
	sealed, _ := t.Table.Sealed(n)
	_, err := n.WithFile(func(f *backing.File, _ inode.Content) error {
		if sealed {
			end := format.StoredSize(off+length, format.Padded)
			return f.Allocate(0, end)
		}
		return f.Allocate(off, length)
	})
	if err != nil || mode&unix.FALLOC_FL_KEEP_SIZE != 0 {
		return err
	}
	if size, err := c.Length(); err != nil || off+length <= size {
		return err
	}
	return c.Truncate(off + length)
}
