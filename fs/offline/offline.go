// Package offline reads users' trees in a store without a mount and without a daemon, and may do so beside one. It changes
// nothing. It is how mail leaves a store whose daemon is away.
package offline

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/check"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/content"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/route"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/seal"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/tree"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

// ErrUnfinished says that a message was never finished: it is being delivered, or its delivery was broken off.
var ErrUnfinished = content.ErrUnfinished

// ErrCorrupt says that stored bytes are damaged.
var ErrCorrupt = format.ErrCorrupt

// Keys opens content keys of users; errors as check.Keys.
type Keys interface {
	OpeningKey(account.User, secret.ID) (*secret.Key, error)
}

// Options say what to read. Store, Site and Keys are required.
type Options struct {
	Store string     // absolute path of the store's root
	Site  *site.Keys // stays the caller's
	Keys  Keys

	Profile  string // as in the configuration, like the next three
	UserPath string // template of the users' directories
	Private  []string
	Meta     []string

	RefusePlain bool // plain = "refuse": opening a plain file of a user is an error
}

// idleDescriptors bounds how many files stay open although nobody reads them.
const idleDescriptors = 64

// Store is an open store. Its methods are safe for concurrent use.
type Store struct {
	tree *tree.Tree
	thaw func()
}

// Open opens a store for reading. The caller closes it.
func Open(o Options) (*Store, error) {
	policy, err := route.New(o.Profile, o.UserPath, o.Private, o.Meta)
	if err != nil {
		return nil, err
	}
	nameKeys, err := seal.NewNames(o.Site.NamesMAC, o.Site.NamesEnc)
	if err != nil {
		return nil, err
	}
	xattrs, err := seal.NewXAttrs(o.Site.XAttr)
	if err != nil {
		return nil, err
	}
	path, thaw, err := check.Freeze(o.Store)
	if err != nil {
		return nil, err
	}
	root, err := backing.OpenRoot(path)
	if err != nil {
		thaw()
		return nil, fmt.Errorf("cannot read the store %s: %w", o.Store, errors.Unwrap(err))
	}
	t, err := tree.New(tree.Options{
		Store: root, Codec: names.New(nameKeys, false), XAttrs: xattrs, Policy: policy, Keys: readOnly{o.Keys}, Site: o.Site,
		Log:         slog.New(slog.DiscardHandler), // whoever reads gets every error
		RefusePlain: o.RefusePlain,
		Shared:      true, // a daemon may be at work
		Descriptors: idleDescriptors,
	})
	if err != nil {
		root.Release()
		thaw()
		return nil, err
	}
	return &Store{tree: t, thaw: thaw}, nil
}

// readOnly is a tree's source of keys for reading alone.
type readOnly struct{ Keys }

var errReadOnly = errors.New("the store is open for reading only")

func (readOnly) SealingKey(account.User) (secret.ContentKey, error) {
	return secret.ContentKey{}, errReadOnly
}
func (readOnly) Holds(account.User) bool              { return false }
func (readOnly) Retired(account.User, secret.ID) bool { return false }

// Close closes the store. Nothing of it may be in use any more.
func (s *Store) Close() {
	s.tree.Close()
	s.thaw()
}

// Places returns the directories that are the user's with all below them, each as the components of its path in the
// view. Some may not exist.
func (s *Store) Places(u account.User) ([][]string, error) {
	places, _, err := s.tree.Places(context.Background(), u)
	return places, err
}

// Dir opens the directory at path, from the root of the view. The error is os.ErrNotExist if there is none.
func (s *Store) Dir(path []string) (*Dir, error) {
	d := &Dir{tree: s.tree, node: s.tree.Table.Root}
	for _, name := range path {
		next, err := d.Dir(name)
		d.Close()
		if err != nil {
			return nil, err
		}
		d = next
	}
	return d, nil
}

// Dir is an open directory of the view. Its methods are safe for concurrent use.
type Dir struct {
	tree *tree.Tree
	node *inode.Inode
}

// Close gives the directory back.
func (d *Dir) Close() {
	if d.node != d.tree.Table.Root {
		d.tree.Forget(d.node.ID, 1)
	}
}

// Ino returns the directory's inode number, which stays when its name changes.
func (d *Dir) Ino() uint64 { return d.node.Ino }

// Entry is a name in a directory; Type has only type bits.
type Entry struct {
	Name string
	Type iofs.FileMode
}

// List returns all entries of the directory as the view shows them, each once, in no order; some may have gone since. A name
// can be any byte string without '/' and zero bytes but "." and "..".
func (d *Dir) List() ([]Entry, error) {
	var out []Entry
	seen := make(map[string]bool)
	for range 2 { // a daemon may give an entry another stored name, and so another place in the listing, but not twice
		entries, err := d.tree.List(d.node)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if !seen[e.Name] {
				seen[e.Name] = true
				out = append(out, Entry{e.Name, typeOf(e.Type)})
			}
		}
	}
	return out, nil
}

func typeOf(mode uint32) iofs.FileMode {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 0
	case unix.S_IFDIR:
		return iofs.ModeDir
	case unix.S_IFLNK:
		return iofs.ModeSymlink
	}
	return iofs.ModeIrregular
}

// Dir opens a subdirectory. The error is os.ErrNotExist if there is none; a symbolic link is none.
func (d *Dir) Dir(name string) (*Dir, error) {
	n, err := d.tree.Lookup(d.node, name)
	if err != nil {
		return nil, err
	}
	sub := &Dir{d.tree, n.Inode}
	if n.Type != unix.S_IFDIR {
		sub.Close()
		return nil, fmt.Errorf("%q is not a directory: %w", name, os.ErrNotExist)
	}
	return sub, nil
}

// Open opens a regular file. Errors: os.ErrNotExist, also for what is no regular file, secret.ErrLocked,
// secret.ErrUnknownKey, ErrCorrupt, ErrUnfinished, and those of the system.
func (d *Dir) Open(name string) (*File, error) {
	n, err := d.tree.Lookup(d.node, name)
	if err != nil {
		return nil, err
	}
	if n.Type != unix.S_IFREG {
		d.tree.Forget(n.ID, 1)
		return nil, fmt.Errorf("%q is not a regular file: %w", name, os.ErrNotExist)
	}
	c, err := d.tree.Open(n.Inode)
	if err != nil {
		d.tree.Forget(n.ID, 1)
		return nil, err
	}
	size, err := c.Length()
	if err != nil {
		d.tree.Release(n.Inode)
		d.tree.Forget(n.ID, 1)
		return nil, err
	}
	m := n.Attr.Mtime
	return &File{tree: d.tree, node: n.Inode, content: c, Size: size, ModTime: time.Unix(m.Sec, int64(m.Nsec))}, nil
}

// File is an open regular file.
type File struct {
	Size    int64     // of the plaintext when it was opened, in bytes
	ModTime time.Time // of the last change: of a message, its date

	tree    *tree.Tree
	node    *inode.Inode
	content inode.Content
}

// ReadAt implements io.ReaderAt for the plaintext. Damaged bytes are ErrCorrupt, and none of their block is returned.
func (f *File) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.content.ReadAt(b, off)
	if err == nil && n < len(b) {
		err = io.EOF
	}
	return n, err
}

// Close closes the file.
func (f *File) Close() error {
	f.tree.Release(f.node)
	f.tree.Forget(f.node.ID, 1)
	return nil
}
