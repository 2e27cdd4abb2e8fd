package tree

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// boxes knows which boxes are whose, former owners included, by their paths in the
// view. The first who asks has all headers read; later changes are noted as they
// happen.
type boxes struct {
	mu     sync.Mutex
	of     map[account.User]map[string]struct{}
	owners map[string][]account.User // the owner first, or ""

	scan    sync.Mutex // held while all headers are read
	scanned time.Time  // guarded by scan
}

// boxesAge is for how long the index holds when other hosts make mailboxes too.
const boxesAge = 10 * time.Minute

// set says whose the box at path is, and whose it was before; nobody's is forgotten.
func (b *boxes) set(path string, owner account.User, former []account.User) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of == nil {
		b.of, b.owners = map[account.User]map[string]struct{}{}, map[string][]account.User{}
	}
	for _, u := range b.owners[path] {
		if delete(b.of[u], path); len(b.of[u]) == 0 {
			delete(b.of, u)
		}
	}
	delete(b.owners, path)
	if owner == "" && len(former) == 0 {
		return
	}
	b.owners[path] = append([]account.User{owner}, former...)
	for _, u := range b.owners[path] {
		if b.of[u] == nil {
			b.of[u] = map[string]struct{}{}
		}
		b.of[u][path] = struct{}{}
	}
}

// paths returns the paths of the boxes that are u's, and of those that were, in order.
func (b *boxes) paths(u account.User) (now, former [][]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, path := range slices.Sorted(maps.Keys(b.of[u])) {
		if b.owners[path][0] == u {
			now = append(now, strings.Split(path, "/"))
		} else {
			former = append(former, strings.Split(path, "/"))
		}
	}
	return now, former
}

// boxesOf returns the paths of the boxes that are u's, and of those that were.
func (t *Tree) boxesOf(ctx context.Context, u account.User, partitions [][]string) (now, former [][]string, err error) {
	b := &t.boxes
	b.scan.Lock()
	defer b.scan.Unlock()
	if b.scanned.IsZero() || t.Shared && time.Since(b.scanned) > boxesAge {
		for _, p := range partitions {
			if err := t.scanBoxes(ctx, p); err != nil {
				return nil, nil, err
			}
		}
		b.scanned = time.Now()
	}
	now, former = b.paths(u)
	return now, former, nil
}

// scanBoxes reads the headers of all boxes of a partition.
func (t *Tree) scanBoxes(ctx context.Context, partition []string) error {
	path, _ := t.Policy.UUIDPath(partition)
	first, err := t.Directories(path)
	if err != nil {
		return err
	}
	for _, x := range first {
		second, err := t.Directories(slices.Concat(path, []string{x}))
		if err != nil {
			return err
		}
		for _, y := range second {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := t.scanLetter(slices.Concat(path, []string{x, y})); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Tree) scanLetter(path []string) error {
	names, err := t.Directories(path)
	if err != nil {
		return err
	}
	return t.Visit(path, func(n *inode.Inode) error {
		for _, name := range names {
			if child, err := t.Lookup(n, name); err == nil {
				t.look(child)
			}
		}
		return nil
	})
}

// look has the header of a box read.
func (t *Tree) look(box Node) {
	defer t.Forget(box.ID, 1)
	if box.Type != unix.S_IFDIR {
		return
	}
	if d, err := t.dir(box.Inode); err == nil {
		d.Release()
	}
}
