package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// Rotate begins a rotation: the user has a new content key at once, locked or not, and what is sealed under older keys is
// Retired, delivery keys of before included. With identity the identity is replaced as well, at once for an unlocked user,
// otherwise at his next unlock; his secrets stay the same, and sessions go on. Rotating again while a rotation is under way
// adds to it, as long as that has a purpose: ErrRotating if it waits for the user's next unlock, or too many old keys wait
// to be destroyed. Other errors: secret.ErrNotEnrolled, ErrUnknownSlot (identity), and what is wrong with record or disk; after one
// the record is as before, or Rotation tells of the new one.
func (r *Ring) Rotate(ctx context.Context, u account.User, identity bool, by string) error {
	m, err := r.member(u)
	if err != nil {
		return err
	}
	m.slow.Lock()
	defer m.slow.Unlock()
	if err := r.refresh(m); err != nil {
		return err
	}
	m.mu.RLock()
	held := m.identity
	m.mu.RUnlock()
	fresh, err := r.rotate(ctx, u, identity, held, by)
	if errors.Is(err, ErrRotating) {
		return err
	}
	err = errors.Join(err, r.take(m, fresh))
	// What is sealed from now on goes under a key that is not old.
	if m.endEpochs() {
		r.keysGone(u)
	}
	return err
}

// take takes up a record that we have just changed, and with it the identity that replaced the old one, nil if none did.
// The caller holds slow.
func (r *Ring) take(m *member, fresh *slot.Identity) error {
	if fresh == nil {
		return r.refresh(m)
	}
	loaded, err := r.records.Read(m.user)
	if err == nil && !bytes.Equal(loaded.Public[:], fresh.Public().Bytes()) {
		fresh.Wipe()
		return r.refresh(m)
	}
	if err == nil {
		err = m.setRecord(loaded)
	}
	if err == nil {
		err = r.setCurrent(m, fresh, loaded.User)
	}
	if err != nil {
		fresh.Wipe()
		return notEnrolled(err)
	}
	m.mu.Lock()
	old := m.identity
	m.identity, m.checks = fresh, nil
	m.mu.Unlock()
	if old != nil {
		old.Wipe()
	}
	return nil
}

// Rotation tells whether a rotation of the user is under way, and which; Retired knows of it from then on. Errors:
// secret.ErrNotEnrolled, and what is wrong with record or store.
func (r *Ring) Rotation(u account.User) (Rotation, bool, error) {
	// Users without a rotation, whom a look at everybody is mostly about, need not stay in memory.
	if rec, err := r.current(u); err != nil || rec.Rotation == nil {
		return Rotation{}, false, err
	}
	m, err := r.member(u)
	if err != nil {
		return Rotation{}, false, err
	}
	m.slow.Lock()
	defer m.slow.Unlock()
	if err := r.refresh(m); err != nil {
		return Rotation{}, false, err
	}
	retired, err := r.retiredOf(m)
	if err != nil {
		return Rotation{}, false, err
	}
	x, ok := rotation(m.record(), len(retired))
	return x, ok, nil
}

// FinishRotation destroys the old keys of the user: on disk, where they are overwritten as far as that helps (FORMAT.md
// K18), in the previous version of the record too, and in memory. It is called after a pass over the user's tree that
// began after Rotation returned seen and found nothing under a Retired key, while the user was unlocked: without his key
// nothing can be sealed anew. After a failure, or a crash at any step, the
// rotation is still under way and FinishRotation can be called again. Without a rotation there is nothing to do. Errors:
// ErrRotation, ErrTooSoon (only with Options.Cluster), secret.ErrNotEnrolled, and what is wrong with record or disk.
func (r *Ring) FinishRotation(ctx context.Context, u account.User, seen Rotation) error {
	m, err := r.member(u)
	if err != nil {
		return err
	}
	m.slow.Lock()
	defer m.slow.Unlock()
	// Not refreshed: a rotation that this ring had not known of was not what Retired spoke of.
	rec := m.record()
	if rec.Rotation == nil {
		return nil
	}
	if !rec.Rotation.Started.Equal(seen.Started) || rec.Rotation.Pending || !m.unlocked() {
		return ErrRotation
	}
	// Every rotation begins with a new content key. Started may be the time of a clock that was wrong.
	if r.o.Cluster && r.o.Now().Before(rec.Current().Created.Add(2*r.o.Epoch)) {
		return ErrTooSoon
	}
	retired, err := r.retiredOf(m)
	if err != nil {
		return err
	}
	err = r.finish(m, rec, retired)
	if err != nil {
		err = fmt.Errorf("cannot end the rotation: %w", err)
	}
	// Also after a failure: what was destroyed on disk by then goes in memory too.
	if err := errors.Join(err, r.refresh(m)); err != nil {
		return err
	}
	r.log.Info("rotation ended", "user", string(u), "keys", seen.Keys)
	r.event(ctx, audit.Event{User: u, What: audit.RotateEnd, By: seen.By, Detail: fmt.Sprintf("%d old keys destroyed", seen.Keys)})
	return nil
}

// finish destroys under the lock of the record. The caller holds slow.
func (r *Ring) finish(m *member, rec *records.User, retired map[secret.ID]struct{}) error {
	home, err := r.records.Lock(m.user, false)
	if err != nil {
		return err
	}
	defer home.Release()
	now, err := home.Read()
	if err != nil {
		return err
	}
	if now.Rotation == nil || now.Rotation.Pending || !now.Rotation.Started.Equal(rec.Rotation.Started) {
		return ErrRotation
	}
	return r.endRotation(home, retired)
}

// dropDestroyed wipes the keys in memory that are no longer on disk: a rotation, of ours or of another process, has ended
// or is about to. The caller holds slow.
func (r *Ring) dropDestroyed(m *member) {
	// Without the list of delivery keys none is kept: those that are on disk are opened again.
	deliveries, _ := r.records.Deliveries(m.user)
	var gone []*secret.Key
	m.mu.Lock()
	for id, k := range m.opened {
		if id != m.current.ID && m.loaded.ContentKey(id) == nil && !slices.Contains(deliveries, id) {
			gone = append(gone, k)
			delete(m.opened, id)
		}
	}
	m.mu.Unlock()
	// Not under mu: Wipe waits for whoever uses the key.
	for _, k := range gone {
		k.Wipe()
	}
}

// retiredOf returns the delivery keys of before the rotation. They are looked up once: no more can come, because whoever
// makes one while there is a rotation gives it a later time. The caller holds slow.
func (r *Ring) retiredOf(m *member) (map[secret.ID]struct{}, error) {
	m.mu.RLock()
	retired, rec := m.retired, m.loaded.User
	m.mu.RUnlock()
	if retired != nil {
		return retired, nil
	}
	retired, err := r.retiredDeliveries(rec)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.retired = retired
	return retired, nil
}

// Retired reports whether that content key or delivery key of the user is older than a rotation that is under way, so that
// what is sealed under it should be sealed anew. Without a system call but for the first time after a rotation began;
// false for a user whose record has not been needed yet.
func (r *Ring) Retired(u account.User, id secret.ID) bool {
	m := r.lookup(u)
	if m == nil {
		return false
	}
	retired, known := m.isRetired(id)
	if known {
		return retired
	}
	m.slow.Lock()
	defer m.slow.Unlock()
	set, err := r.retiredOf(m)
	if err != nil {
		m.fail(r.log, fmt.Errorf("cannot tell which delivery keys are old: %w", err))
		return false
	}
	_, retired = set[id]
	return retired
}

// isRetired is Retired as far as it is known without looking at the store.
func (m *member) isRetired(id secret.ID) (retired, known bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for i := range m.loaded.ContentKeys {
		if m.loaded.ContentKeys[i].ID == id {
			return m.loaded.ContentKeys[i].State == records.Old, true
		}
	}
	if m.loaded.Rotation == nil {
		return false, true
	}
	_, retired = m.retired[id]
	return retired, m.retired != nil
}
