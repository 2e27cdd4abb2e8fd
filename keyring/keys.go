package keyring

import (
	"errors"
	"fmt"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// deliveryKey is a delivery key within its epoch.
type deliveryKey struct {
	secret.ContentKey
	sealUntil time.Time // not handed out for new content from here on
	until     time.Time // wiped here
	timer     *time.Timer
}

// readBack is how long at least a delivery key opens what was sealed under it; half an epoch, if that is less.
const readBack = 10 * time.Second

// SealingKey returns the key that new private content of the user is sealed under: of an unlocked user the current
// content key; of a locked one the delivery key of this epoch, which is durable before it is returned (FORMAT.md K11).
// The ring owns and wipes the key: a caller that meets secret.ErrWiped asks again. Without a system call and without an
// allocation when the key is at hand. Errors: secret.ErrNotEnrolled, secret.ErrMemory, and what is wrong with the record
// or the store.
func (r *Ring) SealingKey(u account.User) (secret.ContentKey, error) {
	if m := r.lookup(u); m != nil {
		if ck, ok := m.sealing(r.o.Now); ok {
			return ck, nil
		}
	}
	m, err := r.member(u)
	if err != nil {
		return secret.ContentKey{}, err
	}
	m.slow.Lock()
	defer m.slow.Unlock()
	if ck, ok := m.sealing(r.o.Now); ok {
		return ck, nil
	}
	return r.newDelivery(m)
}

// Holds reports whether the user is unlocked. Without a system call.
func (r *Ring) Holds(u account.User) bool {
	m := r.lookup(u)
	return m != nil && m.unlocked()
}

// newDelivery makes the delivery key of a new epoch. The caller holds slow.
func (r *Ring) newDelivery(m *member) (secret.ContentKey, error) {
	if r.isClosed() {
		return secret.ContentKey{}, ErrClosed
	}
	key, err := secret.RandomKey()
	if err != nil {
		return secret.ContentKey{}, err
	}
	now := r.o.Now()
	d := &deliveryKey{
		ContentKey: secret.ContentKey{ID: secret.RandomID(), Key: key},
		// Whoever got the key just before the end has still time to use it, and to read what was written: a delivery
		// agent makes the copies for further recipients from that for the first.
		sealUntil: now.Add(r.o.Epoch - min(r.o.Epoch/2, readBack)),
		until:     now.Add(r.o.Epoch),
	}
	if err := r.writeDelivery(m, d.ContentKey); err != nil {
		key.Wipe()
		return secret.ContentKey{}, fmt.Errorf("cannot make a delivery key for %q: %w", m.user, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.delivery = append(m.delivery, d)
	d.timer = time.AfterFunc(r.o.Epoch, func() { r.endEpoch(m, d) })
	return d.ContentKey, nil
}

// writeDelivery seals the key by the record of the moment at which it is written: one that was sealed to an identity
// which was replaced meanwhile would count as younger than that. The caller holds slow.
func (r *Ring) writeDelivery(m *member, ck secret.ContentKey) error {
	home, err := r.records.Lock(m.user, false)
	if err != nil {
		return notEnrolled(err)
	}
	defer home.Release()
	if err := r.refresh(m); err != nil {
		return err
	}
	m.mu.RLock()
	public, rec := m.public, m.loaded.User
	m.mu.RUnlock()
	sealed, err := public.Seal(m.user, ck)
	if err != nil {
		return err
	}
	created := r.second()
	if rec.Rotation != nil && !created.After(rec.Rotation.Started) {
		created = rec.Rotation.Started.Add(time.Second)
	}
	return home.AddDelivery(&records.Delivery{User: m.user, ID: ck.ID, Created: created, Sealed: sealed})
}

// endEpoch wipes a delivery key: from now on only the identity opens it.
func (r *Ring) endEpoch(m *member, d *deliveryKey) {
	m.mu.Lock()
	for i, x := range m.delivery {
		if x == d {
			// A new slice: nothing is changed that somebody may be reading.
			m.delivery = append(append([]*deliveryKey(nil), m.delivery[:i]...), m.delivery[i+1:]...)
			break
		}
	}
	m.mu.Unlock()
	d.Key.Wipe()
	r.keysGone(m.user)
}

// OpeningKey returns the content key or delivery key of that name. The ring owns and wipes it: a caller that meets
// secret.ErrWiped treats it as secret.ErrLocked. Without a system call and without an allocation when the key is at
// hand. Errors: secret.ErrLocked (the key exists, but is not at hand), secret.ErrUnknownKey, secret.ErrNotEnrolled,
// and what is wrong with the record.
func (r *Ring) OpeningKey(u account.User, id secret.ID) (*secret.Key, error) {
	if m := r.lookup(u); m != nil {
		if k := m.opening(id); k != nil {
			return k, nil
		}
	}
	m, err := r.member(u)
	if err != nil {
		return nil, err
	}
	m.slow.Lock()
	defer m.slow.Unlock()
	if k := m.opening(id); k != nil {
		return k, nil
	}
	m.mu.RLock()
	identity, rec := m.identity, m.loaded.User
	m.mu.RUnlock()
	k, err := openKey(r.records, rec, identity, id)
	if errors.Is(err, secret.ErrUnknownKey) {
		// The record may have been changed by another process or another host.
		if err := r.refresh(m); err != nil {
			return nil, err
		}
		m.mu.RLock()
		identity, rec = m.identity, m.loaded.User
		m.mu.RUnlock()
		k, err = openKey(r.records, rec, identity, id)
	}
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// Still unlocked: that changes under slow only. Refreshing may have opened the very key.
	if old := m.opened[id]; old != nil {
		k.Wipe()
		return old, nil
	}
	m.opened[id] = k
	return k, nil
}

// openKey opens a content key or a delivery key with the identity; nil stands for that of a locked user.
func openKey(d *records.Dir, rec *records.User, identity *slot.Identity, id secret.ID) (*secret.Key, error) {
	var sealed []byte
	if ck := rec.ContentKey(id); ck != nil {
		sealed = ck.Sealed
	} else {
		delivery, err := d.Delivery(rec.User, id)
		if errors.Is(err, records.ErrNotFound) {
			return nil, secret.ErrUnknownKey
		}
		if err != nil {
			return nil, err
		}
		sealed = delivery.Sealed
	}
	if identity == nil {
		return nil, secret.ErrLocked
	}
	k, err := identity.Open(rec.User, id, sealed)
	if errors.Is(err, slot.ErrSealed) && len(rec.Identities) > 0 {
		k, err = openByPrevious(rec, identity, id, sealed)
	}
	if err != nil {
		return nil, fmt.Errorf("key %s of %q: %w", id, rec.User, err)
	}
	return k, nil
}

// openByPrevious opens a delivery key of the time before the identity was replaced (FORMAT.md K16).
func openByPrevious(rec *records.User, identity *slot.Identity, id secret.ID, sealed []byte) (*secret.Key, error) {
	for i := range rec.Identities {
		p := &rec.Identities[i]
		old, err := identity.OpenPrevious(rec.User, p.Sealed, p.Public[:])
		if err != nil {
			return nil, err
		}
		k, err := old.Open(rec.User, id, sealed)
		old.Wipe()
		if !errors.Is(err, slot.ErrSealed) {
			return k, err
		}
	}
	return nil, slot.ErrSealed
}

// eachDelivery calls f with each delivery key of the user. Records that cannot be read are left out: what is sealed under
// such a key is lost already, and a backup of the record may bring it back.
func (e *editor) eachDelivery(u account.User, f func(*records.Delivery)) error {
	ids, err := e.records.Deliveries(u)
	if err != nil {
		return err
	}
	for _, id := range ids {
		d, err := e.records.Delivery(u, id)
		if errors.Is(err, records.ErrNotFound) || errors.Is(err, records.ErrCorrupt) || errors.Is(err, records.ErrUnsupported) {
			continue
		}
		if err != nil {
			return err
		}
		f(d)
	}
	return nil
}
