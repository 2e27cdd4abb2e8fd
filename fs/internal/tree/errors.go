package tree

import (
	"errors"
	"fmt"
	"path"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/content"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/route"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/seal"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

var (
	errStale = fmt.Errorf("inode has no name any more: %w", unix.ESTALE)
	// errBroken is the answer for entries that only can be removed (N9).
	errBroken = fmt.Errorf("entry is damaged: %w", format.ErrCorrupt)
	// errForeign is the answer for a header of another mailbox's directory.
	errForeign = fmt.Errorf("header names another mailbox than its directory: %w", format.ErrCorrupt)
	// errPlain is the answer for plain entries with plain = "refuse".
	errPlain = errors.New("plain entry is refused")
)

// keyError is an error of the key records, whose errno says nothing of the file that
// was asked for: mail servers take ENOENT, ENOTDIR and ELOOP for "expunged".
type keyError struct{ error }

func (e keyError) Unwrap() error { return e.error }

// ofKeys marks an error of the key records.
func ofKeys(err error) error {
	if err == nil {
		return nil
	}
	return keyError{err}
}

// errno returns what of the error may reach the caller: that there is no room, and such.
func (e keyError) errno() unix.Errno {
	for _, passing := range []unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EROFS, unix.EINTR} {
		if errors.Is(e.error, passing) {
			return passing
		}
	}
	return unix.EIO
}

// Errno maps an error of this package to what the caller of a system call gets. It
// never is ENOSYS, which the kernel would take as "never ask again".
func Errno(err error) unix.Errno {
	var e unix.Errno
	var k keyError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, secret.ErrLocked), errors.Is(err, errPlain):
		return unix.EACCES
	case errors.Is(err, content.ErrTooLarge):
		return unix.EFBIG
	case errors.As(err, &k):
		return k.errno()
	case errors.As(err, &e) && e != unix.ENOSYS && e != 0:
		return e
	}
	return unix.EIO
}

// Gone reports whether err is of an entry, or of its directory, that was removed since it
// was found. That of a key record that is missing is not, nor ESTALE of the store, as of
// NFS.
func Gone(err error) bool { return Errno(err) == unix.ENOENT || errors.Is(err, errStale) }

// damaged reports whether err says that something in the store is wrong, as
// opposed to refused, full or absent.
func damaged(err error) bool {
	for _, e := range []error{format.ErrCorrupt, format.ErrUnsupported, seal.ErrName, secret.ErrUnknownKey, secret.ErrNotEnrolled, route.ErrHeader, errPlain} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Alert logs once per inode that its stored data is damaged, and returns err. A
// message that was never finished is no damage where messages are begun.
func (t *Tree) Alert(n *inode.Inode, err error) error {
	if err == nil || !damaged(err) || n.Alerted.Swap(true) {
		return err
	}
	view, stored := t.paths(n)
	if a, ok := t.Table.Alias(n); ok && errors.Is(err, content.ErrUnfinished) && t.Table.Route(a.Parent).Begun(a.Name) {
		t.Log.Info("a file was never finished: its writer was interrupted", "view", view, "store", stored)
		return err
	}
	t.Log.Error("stored file cannot be read: restore it from a backup, or remove it", "view", view, "store", stored, "error", err)
	return err
}

// paths returns the path of n in the view and in the store, each from the root.
func (t *Tree) paths(n *inode.Inode) (view, stored string) {
	for n != t.Table.Root {
		a, ok := t.Table.Alias(n)
		if !ok {
			return "(removed)/" + view, "(removed)/" + stored
		}
		view, stored = path.Join(a.Name, view), path.Join(a.Stored.Name, stored)
		n = a.Parent
	}
	return view, stored
}
