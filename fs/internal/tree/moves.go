package tree

import (
	"errors"
	"slices"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/content"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// Moves collects the names that entries of one user get while somebody walks the
// user's tree: a message that is renamed meanwhile could be missed under both names.
// It is safe for concurrent use.
type Moves struct {
	t     *Tree
	user  account.User
	names []Name // guarded by Tree.mu; each counts as one lookup of its directory
}

// WatchMoves begins to collect the moves of u. Close ends it.
func (t *Tree) WatchMoves(u account.User) *Moves {
	m := &Moves{t: t, user: u}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watching = append(t.watching, m)
	return m
}

// Take returns the names that came up since it was called last. Of each, the directory
// counts as looked up once: Forget gives it back.
func (m *Moves) Take() []Name {
	m.t.mu.Lock()
	defer m.t.mu.Unlock()
	names := m.names
	m.names = nil
	return names
}

// Close ends the collection.
func (m *Moves) Close() {
	m.t.mu.Lock()
	m.t.watching = slices.DeleteFunc(m.t.watching, func(other *Moves) bool { return other == m })
	m.t.mu.Unlock()
	for _, n := range m.Take() {
		m.t.Forget(n.Dir.ID, 1)
	}
}

// tellMove says that an entry came to be called name in p. The caller holds p.NS.
func (t *Tree) tellMove(p *inode.Inode, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.watching) == 0 {
		return
	}
	u := t.user(p)
	for _, m := range t.watching {
		if m.user == u {
			t.Table.Hold(p)
			m.names = append(m.names, Name{p, name})
		}
	}
}

// OpenUnderRetired reports whether a file is open, with or without a name, whose
// content is sealed under a content key that u has retired.
func (t *Tree) OpenUnderRetired(u account.User) bool {
	for _, n := range t.Table.All() {
		c, ok := n.Content().(*content.File)
		if !ok {
			continue
		}
		if h, ok := c.Header(); ok && t.Keys.Retired(u, secret.ID(h.KeyID)) {
			return true
		}
	}
	return false
}

// IsRefused reports whether err says that a plain entry was refused (plain = "refuse").
func IsRefused(err error) bool { return errors.Is(err, errPlain) }
