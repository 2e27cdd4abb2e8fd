// Package keyring is the ring of unlocked users: who is unlocked, and with which keys. The keyring directory is the only
// truth about the first: an entry that opens a slot unlocks its user, its removal locks him, whoever did either
// (FORMAT.md section 5). Key records in the store say the rest (section 4).
//
// Lock order: member.login, then member.slow, then the lock of the user's records (records.Home), then one of Ring.mu,
// member.mu and editor.list, never two of them. None of these three is held during I/O, a derivation, or a wipe. State that
// slow guards is changed under slow and mu, and read under either.
package keyring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/internal/tmpfs"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// Errors on which callers branch. ErrLocked, ErrUnknownKey, ErrNotEnrolled, ErrWiped and ErrMemory are those of package
// secret; ErrCorrupt and ErrUnsupported those of package records.
var (
	// ErrEnrolled says that the user has an identity already.
	ErrEnrolled = errors.New("user is enrolled already")
	// ErrWrongSecret says that the password opens no slot of the user.
	ErrWrongSecret = slot.ErrWrongSecret
	// ErrPassword says that a password is not allowed.
	ErrPassword = errors.New("an empty password is not allowed")
	// ErrStale says that a keyring entry opens no slot: the password was changed, or it is not the user's.
	ErrStale = errors.New("entry is stale: it opens no slot of the user (password changed?)")
	// ErrClosed says that the ring was closed.
	ErrClosed = errors.New("keyring is closed")
)

// Defaults of Options.
const (
	DefaultEpoch          = 10 * time.Minute
	DefaultMaxDerivations = 4
)

// Options say what a Ring works on. Store, Dir and Site are required.
type Options struct {
	Store  string        // the root of the store
	Dir    string        // the keyring directory: tmpfs or ramfs, root, 0700
	Site   *site.Keys    // stays the caller's, and must live longer than the Ring
	Params slot.Params   // of new slots; zero: slot.Default
	Epoch  time.Duration // how long a delivery key is in memory; zero: DefaultEpoch
	// MaxDerivations bounds the number of Argon2id runs at a time, and so their memory; zero: DefaultMaxDerivations.
	MaxDerivations int
	// Recipients are the recovery keys for which every user shall have a slot; see SetRecipients.
	Recipients []recovery.Recipient
	// Cluster says that daemons on other hosts use the store too; see FinishRotation.
	Cluster bool
	// Audit is told what happened to keys, with locks of that user held: it must not call the ring. Nil: nobody is told.
	Audit func(audit.Event)

	Log *slog.Logger     // nil: nothing is logged
	Now func() time.Time // nil: time.Now
	// KeysGone is called after keys of a user were wiped: by a lock, or by the end of a delivery epoch. It runs in a
	// goroutine of its own, or in that of Lock, with no lock held. Nil: nobody is told.
	KeysGone func(account.User)
	// KeysCame is called after a secret opened a user's identity, with locks of that user held: it must return at once. What
	// opened it may have left copies on the heap until the collector runs. Nil: nobody is told.
	KeysCame func()
}

// Ring holds the keys of unlocked users. All methods are safe for concurrent use; nobody may use it after Close.
type Ring struct {
	*editor
	o       Options
	entries *tmpfs.Dir
	process *secret.Key // random key of this process: recognises passwords and entries without keeping them

	mu      sync.RWMutex
	members map[account.User]*member // enrolled users that were asked for; guarded by mu
	refused map[string]string        // entry name → why no user could be unlocked by it; guarded by mu
	closed  bool                     // guarded by mu
}

// Open checks keyring directory (R1) and store record (K12), and takes up the entries that are there: users who were
// unlocked before a restart are unlocked again. Entries that open nothing are refused with a log line, not with an
// error. Errors name path and remedy. Follow with Watch; ctx bounds Open alone.
func Open(ctx context.Context, o Options) (*Ring, error) {
	r, err := newRing(o)
	if err != nil {
		return nil, err
	}
	if err := r.rescan(ctx); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func newRing(o Options) (*Ring, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	r := &Ring{
		o:       o,
		members: make(map[account.User]*member),
		refused: make(map[string]string),
	}
	var err error
	if r.entries, err = tmpfs.Open(o.Dir); err != nil {
		return nil, err
	}
	d, err := records.Open(o.Store, o.Site.RecordMAC)
	if err != nil {
		return nil, errors.Join(err, r.entries.Close())
	}
	r.editor = newEditor(&o, d)
	if r.process, err = secret.RandomKey(); err != nil {
		r.records.Close()
		return nil, errors.Join(err, r.entries.Close())
	}
	return r, nil
}

func (o *Options) complete() error {
	if o.Params == (slot.Params{}) {
		o.Params = slot.Default
	}
	if err := o.Params.Check(); err != nil {
		return err
	}
	if o.Epoch == 0 {
		o.Epoch = DefaultEpoch
	}
	if o.MaxDerivations == 0 {
		o.MaxDerivations = DefaultMaxDerivations
	}
	if o.Epoch < 0 || o.MaxDerivations < 0 {
		return fmt.Errorf("epoch %v and number of derivations %d must be positive", o.Epoch, o.MaxDerivations)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// Setup prepares a store for this site secret (FORMAT.md K7, K12). It returns records.ErrExists if that was done before.
func Setup(store string, s *site.Keys, now time.Time) error {
	d, err := records.Create(store, s.RecordMAC, now)
	if err != nil {
		return err
	}
	d.Close()
	return nil
}

// Close wipes all keys and stops all timers. Entries stay: a ring that is opened later takes them up again.
func (r *Ring) Close() {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	r.closed = true
	members := make([]*member, 0, len(r.members))
	for _, m := range r.members {
		members = append(members, m)
	}
	r.mu.Unlock()
	for _, m := range members {
		m.slow.Lock()
		m.wipe()
		m.slow.Unlock()
	}
	r.process.Wipe()
	r.records.Close()
	_ = r.entries.Close()
}

// lookup returns a member that is known already, or nil. No system call, no allocation.
func (r *Ring) lookup(u account.User) *member {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.members[u]
}

// member returns the member of an enrolled user. Errors: secret.ErrNotEnrolled, ErrClosed, and what is wrong with the
// record.
func (r *Ring) member(u account.User) (*member, error) {
	if m := r.lookup(u); m != nil {
		return m, nil
	}
	loaded, err := r.records.Read(u)
	if err != nil {
		return nil, notEnrolled(err)
	}
	fresh, err := newMember(u, loaded)
	if err != nil {
		return nil, err
	}
	m, err := r.enter(fresh)
	if err != nil || m != fresh {
		return m, err
	}
	// Forget destroys the record first, and then removes the member: one that came between is removed here.
	if enrolled, err := r.records.Enrolled(u); err == nil && !enrolled {
		r.leave(m)
		return nil, secret.ErrNotEnrolled
	}
	if loaded.Warning != nil {
		m.fail(r.log, loaded.Warning)
	}
	return m, nil
}

// enter makes a member known, or returns the one that was entered meanwhile.
func (r *Ring) enter(fresh *member) (*member, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	delete(r.refused, fresh.name)
	if m := r.members[fresh.user]; m != nil {
		return m, nil
	}
	r.members[fresh.user] = fresh
	return fresh, nil
}

// isClosed tells whether Close has begun. Whoever asks under member.slow, and hears no, may add keys to the member: Close
// comes by later and wipes them.
func (r *Ring) isClosed() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.closed
}

// keysGone tells the owner of the ring.
func (r *Ring) keysGone(u account.User) {
	if r.o.KeysGone != nil {
		go r.o.KeysGone(u)
	}
}
