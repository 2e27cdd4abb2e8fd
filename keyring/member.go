package keyring

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// maxChecks is how many passwords of an unlocked user are recognised without a derivation.
const maxChecks = 8

// digest is what the process key makes of a password or of an entry.
type digest [32]byte

// member is one enrolled user.
type member struct {
	user account.User
	name string // of the keyring entry and of the record's directory

	// login is held, as a channel so that a context can end the wait, while a password of the user is derived: of many
	// logins at once only the first costs a derivation.
	login chan struct{}

	// slow is held during I/O and by whoever changes the state below; taken before mu.
	slow sync.Mutex

	mu       sync.RWMutex
	loaded   records.Loaded            // guarded by mu; never changed in place
	public   *slot.Public              // of loaded; guarded by mu
	identity *slot.Identity            // nil: locked; guarded by mu
	current  secret.ContentKey         // of an unlocked user; also in opened; guarded by mu
	opened   map[secret.ID]*secret.Key // by the identity; guarded by mu
	retired  map[secret.ID]struct{}    // delivery keys older than the rotation; nil: not looked up; guarded by mu, not changed in place
	delivery []*deliveryKey            // in memory because made within the last epoch; guarded by mu
	since    time.Time                 // of the unlock; guarded by mu
	used     time.Time                 // of the last login, or of the unlock; guarded by mu
	by       string                    // what unlocked; guarded by mu
	entry    digest                    // of the entry that unlocked; guarded by mu
	checks   []digest                  // of passwords that opened a slot since the unlock; guarded by mu
	lastErr  string                    // guarded by mu
}

func newMember(u account.User, loaded records.Loaded) (*member, error) {
	m := &member{user: u, name: u.Escape(), login: make(chan struct{}, 1)}
	return m, m.setRecord(loaded)
}

// setRecord replaces the record. The caller holds slow, or is alone.
func (m *member) setRecord(loaded records.Loaded) error {
	public, err := slot.ParsePublic(loaded.Public[:])
	if err != nil {
		return fmt.Errorf("record of %q: %w: %w", m.user, records.ErrCorrupt, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !sameRotation(m.loaded.User, loaded.User) {
		m.retired = nil
	}
	m.loaded, m.public = loaded, public
	return nil
}

// sameRotation tells whether what is older than the rotation is the same in both records.
func sameRotation(a, b *records.User) bool {
	if a == nil || b == nil || a.Rotation == nil || b.Rotation == nil {
		return false
	}
	return a.Rotation.Started.Equal(b.Rotation.Started)
}

// warning says why the record of m is not the newest one; nil if it is.
func (m *member) warning() error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.loaded.Warning
}

func (m *member) record() *records.User {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.loaded.User
}

func (m *member) unlocked() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.identity != nil
}

// sealing returns the key for new content, if one is at hand.
func (m *member) sealing(now func() time.Time) (secret.ContentKey, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.identity != nil {
		return m.current, true
	}
	if n := len(m.delivery); n > 0 {
		if last := m.delivery[n-1]; now().Before(last.sealUntil) {
			return last.ContentKey, true
		}
	}
	return secret.ContentKey{}, false
}

// opening returns the key of that name, if it is at hand.
func (m *member) opening(id secret.ID) *secret.Key {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if k := m.opened[id]; k != nil {
		return k
	}
	for _, d := range m.delivery {
		if d.ID == id {
			return d.Key
		}
	}
	return nil
}

// adopt unlocks the member with an identity that was just opened, which it takes over. The caller holds slow.
func (r *Ring) adopt(ctx context.Context, m *member, identity *slot.Identity, by string, entry digest) error {
	if r.o.KeysCame != nil {
		defer r.o.KeysCame()
	}
	if r.isClosed() {
		identity.Wipe()
		return ErrClosed
	}
	if r.lookup(m.user) != m { // forgotten meanwhile, and perhaps enrolled anew: nobody would ever wipe it
		identity.Wipe()
		return secret.ErrNotEnrolled
	}
	if err := r.setCurrent(m, identity, m.record()); err != nil {
		identity.Wipe()
		return err
	}
	m.mu.Lock()
	old := m.identity
	m.identity, m.by, m.entry, m.lastErr = identity, by, entry, ""
	m.used = r.o.Now()
	if old == nil {
		m.since = m.used
	}
	m.mu.Unlock()
	if old != nil {
		old.Wipe()
		return nil
	}
	r.log.Info("user unlocked", "user", string(m.user), "by", by)
	r.event(ctx, audit.Event{User: m.user, What: audit.Unlock, Cause: by})
	r.settle(m)
	return nil
}

// lockMember wipes what the identity opened, and the identity, and the delivery keys. The caller holds slow.
func (r *Ring) lockMember(m *member, why string) {
	if r.dropMember(m, why) {
		r.keysGone(m.user)
	}
}

// dropMember is lockMember without telling that keys were wiped, which it reports.
func (r *Ring) dropMember(m *member, why string) bool {
	ended := m.endEpochs()
	if !m.drop() {
		return ended
	}
	r.locked(m, why)
	return true
}

// locked tells the logs that a user was locked.
func (r *Ring) locked(m *member, why string) {
	r.log.Info("user locked", "user", string(m.user), "because", why)
	r.event(context.Background(), audit.Event{User: m.user, What: audit.Lock, Cause: why})
}

// drop is lockMember without telling anybody; it returns false if the user was locked.
func (m *member) drop() bool { return m.dropIf(func() bool { return true }) }

// dropIf is drop if may, which is called with mu held, allows it.
func (m *member) dropIf(may func() bool) bool {
	m.mu.Lock()
	if m.identity == nil || !may() {
		m.mu.Unlock()
		return false
	}
	identity, opened := m.identity, m.opened
	m.identity, m.opened, m.current, m.checks = nil, nil, secret.ContentKey{}, nil
	m.since, m.used, m.by, m.entry = time.Time{}, time.Time{}, "", digest{}
	m.mu.Unlock()
	// Not under mu: Wipe waits for whoever uses the key.
	identity.Wipe()
	for _, k := range opened {
		k.Wipe()
	}
	return true
}

// wipe drops everything, delivery keys too. The caller holds slow.
func (m *member) wipe() {
	m.drop()
	m.endEpochs()
}

// endEpochs wipes the delivery keys before their time, and returns whether there were any. The caller holds slow.
func (m *member) endEpochs() bool {
	m.mu.Lock()
	delivery := m.delivery
	m.delivery = nil
	m.mu.Unlock()
	for _, d := range delivery {
		d.timer.Stop()
		d.Key.Wipe()
	}
	return len(delivery) > 0
}

// fail notes the last error of the user for Status, and logs it unless it is the same as before.
func (m *member) fail(log *slog.Logger, err error) {
	if m.note(err.Error()) {
		log.Warn("user cannot be served as usual", "user", string(m.user), "error", err)
	}
}

// note keeps the last error for Status and tells whether it is another one than before.
func (m *member) note(reason string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed := m.lastErr != reason
	m.lastErr = reason
	return changed
}

// settled takes back what fail noted, unless something else was noted since.
func (m *member) settled(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lastErr == err.Error() {
		m.lastErr = ""
	}
}

// recognises tells whether an unlocked user gave this password before; then he is in use now.
func (m *member) recognises(check digest, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.identity == nil || !slices.Contains(m.checks, check) {
		return false
	}
	m.used = now
	return true
}

// remember keeps the check of a password that opened a slot.
func (m *member) remember(check digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.identity == nil || slices.Contains(m.checks, check) {
		return
	}
	if len(m.checks) == maxChecks {
		m.checks = m.checks[1:]
	}
	m.checks = append(slices.Clip(m.checks), check)
}
