package keyring

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/internal/tmpfs"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// Offline opens keys of a store with no daemon, and changes key records where a method says so; it takes the same locks as
// a daemon, which learns of changes by Reload. In the keyring directory it changes nothing but entries of passwords that it
// sets (and of users whom it forgets), and it makes no delivery keys. Safe for concurrent use.
type Offline struct {
	*editor
	entries *tmpfs.Dir // nil without a keyring directory

	mu      sync.Mutex
	closed  bool
	members map[account.User]*openedUser // guarded by mu
}

// openedUser is a user as far as Offline came with him; guarded by Offline.mu.
type openedUser struct {
	rec      *records.User
	identity *slot.Identity // nil: locked
	keys     map[secret.ID]*secret.Key
}

// OpenOffline opens the key records of a store, and the keyring directory unless dir is empty. It checks both as Open
// does. The site's keys stay the caller's and must live longer.
func OpenOffline(store, dir string, s *site.Keys) (*Offline, error) {
	return OpenOfflineOptions(Options{Store: store, Dir: dir, Site: s})
}

// OpenOfflineOptions is OpenOffline for verbs that change records: of the options it uses Store, Dir (may be empty), Site,
// Params, MaxDerivations, Recipients, Audit, Log and Now.
func OpenOfflineOptions(options Options) (*Offline, error) {
	if err := options.complete(); err != nil {
		return nil, err
	}
	d, err := records.Open(options.Store, options.Site.RecordMAC)
	if err != nil {
		return nil, err
	}
	o := &Offline{editor: newEditor(&options, d), members: make(map[account.User]*openedUser)}
	if options.Dir == "" {
		return o, nil
	}
	if o.entries, err = tmpfs.Open(options.Dir); err != nil {
		d.Close()
		return nil, err
	}
	return o, nil
}

// Users is Ring.Users.
func (o *Offline) Users() ([]account.User, error) {
	users, problems, err := o.records.Users()
	slices.Sort(users)
	return users, errors.Join(err, errors.Join(problems...))
}

// Warning returns what is wrong with a record that is used nevertheless (FORMAT.md K13), or why it cannot be used.
func (o *Offline) Warning(u account.User) error {
	loaded, err := o.records.Read(u)
	if err != nil {
		return notEnrolled(err)
	}
	return loaded.Warning
}

// UnlockByEntry opens the user by his entry in the keyring directory. Errors: secret.ErrLocked without an entry or a
// directory, ErrStale, secret.ErrNotEnrolled, and what is wrong with entry or record.
func (o *Offline) UnlockByEntry(u account.User) error {
	e, err := o.entryOf(u)
	if err != nil {
		return err
	}
	defer e.Hash.Wipe()
	return o.unlock(u, e)
}

// Unlock opens the user with a password, which is wiped. Errors: ErrWrongSecret, secret.ErrNotEnrolled, that of ctx, and
// what is wrong with the record.
func (o *Offline) Unlock(ctx context.Context, u account.User, password []byte) error {
	defer secret.Wipe(password)
	loaded, err := o.records.Read(u)
	if err != nil {
		return notEnrolled(err)
	}
	e, err := findEntry(ctx, o.derive, loaded.User, o.site, password)
	if err != nil {
		return err
	}
	defer e.Hash.Wipe()
	return o.unlock(u, e)
}

func (o *Offline) unlock(u account.User, e slot.Entry) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	m, err := o.memberLocked(u)
	if err != nil {
		return err
	}
	identity, _, err := openEntry(m.rec, o.site, e)
	if err != nil {
		return err
	}
	m.adopt(identity)
	return nil
}

// adopt takes over an identity.
func (m *openedUser) adopt(identity *slot.Identity) {
	if m.identity != nil {
		m.identity.Wipe()
	}
	m.identity = identity
}

// OpeningKey is Ring.OpeningKey for users who were unlocked here.
func (o *Offline) OpeningKey(u account.User, id secret.ID) (*secret.Key, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m, err := o.memberLocked(u)
	if err != nil {
		return nil, err
	}
	if k := m.keys[id]; k != nil {
		return k, nil
	}
	k, err := openKey(o.records, m.rec, m.identity, id)
	if errors.Is(err, secret.ErrUnknownKey) && m.identity != nil {
		k, err = o.youngKey(m, id)
	}
	if err != nil {
		return nil, err
	}
	m.keys[id] = k
	return k, nil
}

// youngKey is openKey by the record of now, after a rotation that began since it was read: the identity that was opened
// opens the new content key too, or the keyring entry opens the new identity. The caller holds mu.
func (o *Offline) youngKey(m *openedUser, id secret.ID) (*secret.Key, error) {
	loaded, err := o.records.Read(m.rec.User)
	if err != nil {
		return nil, notEnrolled(err)
	}
	if !bytes.Equal(m.identity.Public().Bytes(), loaded.Public[:]) {
		e, err := o.entryOf(m.rec.User)
		if err != nil {
			return nil, err
		}
		defer e.Hash.Wipe()
		identity, _, err := openEntry(loaded.User, o.site, e)
		if err != nil {
			return nil, err
		}
		m.adopt(identity)
	}
	m.rec = loaded.User
	return openKey(o.records, m.rec, m.identity, id)
}

// Close wipes all keys.
func (o *Offline) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.closed = true
	for _, m := range o.members {
		m.wipe()
	}
	o.records.Close()
	if o.entries != nil {
		_ = o.entries.Close()
	}
}

func (o *Offline) memberLocked(u account.User) (*openedUser, error) {
	if o.closed {
		return nil, ErrClosed
	}
	if m := o.members[u]; m != nil {
		return m, nil
	}
	loaded, err := o.records.Read(u)
	if err != nil {
		return nil, notEnrolled(err)
	}
	m := &openedUser{rec: loaded.User, keys: make(map[secret.ID]*secret.Key)}
	o.members[u] = m
	return m, nil
}

// notEnrolled says in terms of users what the records say in terms of files.
func notEnrolled(err error) error {
	if errors.Is(err, records.ErrNotFound) {
		return secret.ErrNotEnrolled
	}
	return err
}
