package keyring

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// refresh reads the record again if it was changed since. The caller holds slow.
func (r *Ring) refresh(m *member) error {
	stamp, err := r.records.Stamp(m.user)
	if err != nil && !errors.Is(err, records.ErrNotFound) {
		return err
	}
	m.mu.RLock()
	same := err == nil && stamp == m.loaded.Stamp
	m.mu.RUnlock()
	if same {
		return nil
	}
	loaded, err := r.records.Read(m.user)
	if errors.Is(err, records.ErrNotFound) {
		r.lockMember(m, "the record is gone")
		r.leave(m)
		return secret.ErrNotEnrolled
	}
	if err != nil {
		return err
	}
	before, trouble := m.record(), m.warning()
	if err := m.setRecord(loaded); err != nil {
		return err
	}
	// Delivery keys of before a rotation that another process began are old: nothing more may be sealed under them.
	if loaded.Rotation != nil && !sameRotation(before, loaded.User) && m.endEpochs() {
		r.keysGone(m.user)
	}
	if loaded.Warning != nil {
		m.fail(r.log, loaded.Warning)
	} else if trouble != nil {
		m.settled(trouble)
	}
	err = r.follow(m)
	if before.Rotation != nil {
		r.dropDestroyed(m)
	}
	return err
}

// follow brings the keys of an unlocked user in line with a record that was changed: passwords that were recognised may
// be revoked, the current content key may be another, and the identity may have been replaced; then the keyring entry,
// which survives that, opens the new one. The caller holds slow.
func (r *Ring) follow(m *member) error {
	m.mu.Lock()
	m.checks = nil
	identity, rec := m.identity, m.loaded.User
	m.mu.Unlock()
	if identity == nil {
		return nil
	}
	if bytes.Equal(identity.Public().Bytes(), rec.Public[:]) {
		return r.setCurrent(m, identity, rec)
	}
	fresh, err := r.reopen(m, rec)
	if err != nil {
		r.lockMember(m, "the identity was replaced and the keyring entry does not open the new one")
		return nil
	}
	if err := r.setCurrent(m, fresh, rec); err != nil {
		fresh.Wipe()
		return err
	}
	m.mu.Lock()
	m.identity = fresh
	m.mu.Unlock()
	identity.Wipe()
	return nil
}

// reopen opens the identity of the record with the keyring entry. The caller wipes it.
func (r *Ring) reopen(m *member, rec *records.User) (*slot.Identity, error) {
	e, err := r.entryOf(m)
	if err != nil {
		return nil, err
	}
	defer e.Hash.Wipe()
	identity, _, err := openEntry(rec, r.o.Site, e)
	return identity, err
}

// setCurrent makes the record's current content key the one that new content is sealed under. The caller holds slow.
func (r *Ring) setCurrent(m *member, identity *slot.Identity, rec *records.User) error {
	current := rec.Current()
	key := m.opening(current.ID)
	if key == nil {
		var err error
		if key, err = identity.Open(m.user, current.ID, current.Sealed); err != nil {
			return fmt.Errorf("current content key of %q: %w", m.user, err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.opened == nil {
		m.opened = make(map[secret.ID]*secret.Key)
	}
	m.opened[current.ID] = key
	m.current = secret.ContentKey{ID: current.ID, Key: key}
	return nil
}
