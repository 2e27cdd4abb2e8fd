package tree

import (
	"context"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// Places returns the paths in the view, from its root, of the directories that are
// user u's with all below them. Some may not exist. former are those of mailboxes that
// were u's, in which files may still be under keys of u. The first call with profile
// cyrus reads the headers of all mailboxes; the error may be that of ctx.
func (t *Tree) Places(ctx context.Context, u account.User) (out, former [][]string, err error) {
	partitions, err := t.partitions()
	for _, p := range partitions {
		out = append(out, t.Policy.PathsOf(u, p)...)
	}
	if err != nil || !t.Policy.Structured() {
		return out, nil, err
	}
	boxes, former, err := t.boxesOf(ctx, u, partitions)
	return append(out, boxes...), former, err
}

// partitions returns the paths of Cyrus' partitions, or that of the root.
func (t *Tree) partitions() ([][]string, error) {
	out := [][]string{nil}
	for _, c := range t.Policy.Partition() {
		var next [][]string
		for _, path := range out {
			if c != "*" {
				next = append(next, slices.Concat(path, []string{c}))
				continue
			}
			names, err := t.Directories(path)
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				next = append(next, slices.Concat(path, []string{name}))
			}
		}
		out = next
	}
	return out, nil
}

// Directories returns the names of the subdirectories of the directory at path, none
// if there is no such directory.
func (t *Tree) Directories(path []string) (names []string, err error) {
	err = t.Visit(path, func(n *inode.Inode) error {
		all, err := t.List(n)
		if Gone(err) {
			return nil
		}
		for _, e := range all {
			if e.Type == unix.S_IFDIR {
				names = append(names, e.Name)
			}
		}
		return err
	})
	return names, err
}

// Visit calls f with the directory at path, counted as looked up meanwhile, if there
// is one.
func (t *Tree) Visit(path []string, f func(*inode.Inode) error) error {
	return t.visit(t.Table.Root, path, f)
}

func (t *Tree) visit(n *inode.Inode, path []string, f func(*inode.Inode) error) error {
	if len(path) == 0 {
		return f(n)
	}
	child, err := t.Lookup(n, path[0])
	if Gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer t.Forget(child.ID, 1)
	if child.Type != unix.S_IFDIR {
		return nil
	}
	return t.visit(child.Inode, path[1:], f)
}
