package tree

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// scratchAge is when the scratch files of another host, which nobody can ask, are
// taken for left behind.
const scratchAge = 24 * time.Hour

// newScratch makes the key of scratch files, which nothing keeps (C15).
func (t *Tree) newScratch() error {
	if !t.Policy.Structured() {
		return nil
	}
	key, err := secret.RandomKey()
	if err != nil {
		return fmt.Errorf("cannot make the key of messages on the way: %w", err)
	}
	t.scratch = secret.ContentKey{ID: secret.RandomID(), Key: key}
	return nil
}

// PurgeScratch removes the scratch files that an earlier process has left: nobody has
// their key any more. Directories stay. What cannot be removed is logged.
func (t *Tree) PurgeScratch() error {
	partitions, err := t.partitions()
	if err != nil {
		return err
	}
	for _, p := range partitions {
		for _, path := range t.Policy.ScratchPaths(p) {
			if err := t.Visit(path, t.purge); err != nil {
				return fmt.Errorf("cannot look for messages that were on the way: %w", err)
			}
		}
	}
	return nil
}

func (t *Tree) purge(n *inode.Inode) error {
	l, err := t.OpenDir(n)
	if Gone(err) {
		return nil // another host was faster
	}
	if err != nil {
		return err
	}
	files, dirs, err := l.entries()
	l.Close()
	if err != nil {
		return err
	}
	for _, name := range dirs {
		if err := t.visit(n, []string{name}, t.purge); err != nil {
			return err
		}
	}
	removed := 0
	for _, name := range files {
		if t.Shared && !t.settled(n, name) {
			continue
		}
		if err := t.Unlink(n, name); Gone(err) {
			continue
		} else if err != nil {
			t.Log.Warn("cannot remove a message that was on the way", "path", t.PathOf(Name{n, name}), "error", err)
			continue
		}
		removed++
	}
	if removed > 0 {
		t.Log.Info("removed messages that were on the way when the daemon ended", "files", removed)
	}
	return nil
}

// settled reports whether nobody has changed the entry name of n for scratchAge.
func (t *Tree) settled(n *inode.Inode, name string) bool {
	node, err := t.Lookup(n, name)
	if err != nil {
		return false
	}
	defer t.Forget(node.ID, 1)
	return time.Since(time.Unix(node.Attr.Ctime.Sec, int64(node.Attr.Ctime.Nsec))) > scratchAge
}

// entries lists the regular files and the directories; symbolic links are neither.
func (l *Listing) entries() (files, dirs []string, err error) {
	for {
		e, ok, err := l.Peek()
		if err != nil || !ok {
			return files, dirs, err
		}
		switch {
		case e.Type == unix.S_IFREG:
			files = append(files, e.Name)
		case e.Type == unix.S_IFDIR && e.Name != "." && e.Name != "..":
			dirs = append(dirs, e.Name)
		}
		l.Skip()
	}
}
