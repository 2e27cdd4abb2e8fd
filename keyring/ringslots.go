package keyring

import (
	"context"
	"errors"
	"fmt"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/code"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// Slots lists the slots of the user in the order in which they were made. Errors: secret.ErrNotEnrolled, and what is wrong
// with the record.
func (r *Ring) Slots(u account.User) ([]SlotInfo, error) {
	rec, err := r.current(u)
	if err != nil {
		return nil, err
	}
	return r.infos(rec), nil
}

// AddPassword adds a password slot, for example for another device. It costs one derivation, and one more if the proof is
// a password. Proof and password are wiped; by says who did it. Errors: ErrWrongSecret, code.ErrCode, secret.ErrLocked (a
// zero proof, and the user is locked), ErrPassword, ErrLabel, ErrTooManySlots, secret.ErrNotEnrolled, that of ctx while
// waiting, and what is wrong with record or disk; then nothing was changed.
func (r *Ring) AddPassword(ctx context.Context, u account.User, p Proof, password []byte, label, by string) (slot.ID, error) {
	held, err := r.held(u, &p)
	if err != nil {
		p.wipe()
		secret.Wipe(password)
		return slot.ID{}, err
	}
	defer held.Wipe()
	id, err := r.addPassword(ctx, u, &p, held, password, label, by)
	if err != nil {
		return slot.ID{}, err
	}
	return id, r.Reload(u)
}

// AddCode adds a recovery code and returns it, for the caller to show once and to wipe. Proof and errors as AddPassword.
func (r *Ring) AddCode(ctx context.Context, u account.User, p Proof, label, by string) (code.Code, slot.ID, error) {
	held, err := r.held(u, &p)
	if err != nil {
		p.wipe()
		return code.Code{}, slot.ID{}, err
	}
	defer held.Wipe()
	c, id, err := r.addCode(ctx, u, &p, held, label, by)
	if err != nil {
		return code.Code{}, slot.ID{}, err
	}
	return c, id, r.Reload(u)
}

// Revoke takes a slot away; a session that it opened goes on. The last slot of a kind that this program knows goes only
// with force: when the user is locked the next time his mail is lost. A slot for a recovery key that is configured comes
// back at the next unlock. Errors: ErrNoSlot, ErrLastSlot,
// secret.ErrNotEnrolled, and what is wrong with record or disk.
func (r *Ring) Revoke(ctx context.Context, u account.User, id slot.ID, force bool, by string) error {
	if err := r.revokeSlot(ctx, u, id, force, by); err != nil {
		return err
	}
	return r.Reload(u)
}

// Recover sets the login password by a proof that need not be the old one: it replaces the slot labelled "login password",
// or the oldest password slot, or adds one. Sessions of an unlocked user go on, a locked user stays locked. Proof and
// password are wiped. Errors as AddPassword; after one nothing was changed.
func (r *Ring) Recover(ctx context.Context, u account.User, p Proof, password []byte, by string) error {
	held, err := r.held(u, &p)
	if err != nil {
		p.wipe()
		secret.Wipe(password)
		return err
	}
	defer held.Wipe()
	m, err := r.member(u)
	if err != nil {
		p.wipe()
		secret.Wipe(password)
		return err
	}
	check, err := r.checkOf(m, password)
	if err != nil {
		p.wipe()
		secret.Wipe(password)
		return err
	}
	entry, err := r.recover(ctx, u, &p, held, password, by)
	if err != nil {
		return err
	}
	defer entry.Hash.Wipe()
	m.slow.Lock()
	defer m.slow.Unlock()
	if err := r.refresh(m); err != nil {
		return err
	}
	// Without the entry he is about to be locked.
	if !m.unlocked() || !r.entries.Has(m.name) {
		m.note("")
		return nil
	}
	if err := r.dropEntry(ctx, m, entry); err != nil {
		return fmt.Errorf("the password was set, but the keyring entry was not: %w", err)
	}
	m.remember(check)
	return nil
}

// SetRecipients replaces the configured recovery recipients. Users who are unlocked are updated before it returns, all
// others at their next unlock: slots of new recipients are added, those of recipients that are gone are taken away. With
// an empty list none is taken away; Revoke does that.
func (r *Ring) SetRecipients(list []recovery.Recipient) {
	r.configure(list)
	for _, m := range r.all() {
		m.slow.Lock()
		r.settle(m)
		m.slow.Unlock()
	}
}

// MissingRecipients lists the configured recipients for which the user has no slot yet. Errors as Slots.
func (r *Ring) MissingRecipients(u account.User) ([]string, error) {
	rec, err := r.current(u)
	if err != nil {
		return nil, err
	}
	return r.missing(rec), nil
}

// Reload takes up a record that another process changed. A session of the user goes on, also under a new identity. Of a
// user whose record was never needed there is nothing to do. Errors: secret.ErrNotEnrolled, and what is wrong with the
// record; then the one that was read before stays in use.
func (r *Ring) Reload(u account.User) error {
	m := r.lookup(u)
	if m == nil {
		return nil
	}
	m.slow.Lock()
	defer m.slow.Unlock()
	return r.refresh(m)
}

// current returns the record as it is on disk, without making its user a member.
func (r *Ring) current(u account.User) (*records.User, error) {
	if m := r.lookup(u); m != nil {
		m.slow.Lock()
		defer m.slow.Unlock()
		if err := r.refresh(m); err != nil {
			return nil, err
		}
		return m.record(), nil
	}
	loaded, err := r.records.Read(u)
	if err != nil {
		return nil, notEnrolled(err)
	}
	return loaded.User, nil
}

// held returns the identity of an unlocked user for a zero proof, nil for others. It is a copy, which the caller wipes: a
// login may replace the ring's own while something is derived. Errors: secret.ErrLocked, secret.ErrNotEnrolled.
func (r *Ring) held(u account.User, p *Proof) (*slot.Identity, error) {
	if !p.isZero() {
		return nil, nil
	}
	if _, err := r.current(u); err != nil {
		return nil, err
	}
	if m := r.lookup(u); m != nil {
		m.mu.RLock()
		defer m.mu.RUnlock()
		if m.identity != nil {
			identity, err := m.identity.Clone()
			return identity, lockedIfWiped(err)
		}
	}
	return nil, secret.ErrLocked
}

// settle does for an unlocked user what had to wait for his identity: slots of recovery keys, and a new identity. What goes
// wrong is noted for Status and logged: it must not keep anybody from his mail. The caller holds slow.
func (r *Ring) settle(m *member) {
	m.mu.RLock()
	held, rec := m.identity, m.loaded.User
	m.mu.RUnlock()
	if held == nil || r.inLine(rec) && (rec.Rotation == nil || !rec.Rotation.Pending) {
		return
	}
	var c slotChanges
	var fresh *slot.Identity
	var changed *records.User
	err := r.updateBoth(m.user, func(rec *records.User) error {
		var err error
		changed = rec
		c, fresh, err = r.settleRecord(rec, held)
		return err
	})
	if err == nil {
		r.settled(changed, c, fresh != nil)
	}
	// Another process may have come before us; what it did is taken up.
	if errors.Is(err, errUnchanged) || errors.Is(err, slot.ErrForeign) {
		err = nil
	}
	if err := errors.Join(err, r.take(m, fresh)); err != nil {
		m.fail(r.log, fmt.Errorf("cannot bring the key record up to date: %w", err))
	}
}

// settleRecord is the change of the record that settle makes. It returns the new identity if there is one.
func (e *editor) settleRecord(rec *records.User, held *slot.Identity) (slotChanges, *slot.Identity, error) {
	identity, err := openHeld(rec, held)
	if err != nil {
		return slotChanges{}, nil, err
	}
	defer identity.Wipe()
	c, err := e.recoverySlots(rec, identity)
	if err != nil {
		return slotChanges{}, nil, err
	}
	if rec.Rotation != nil && rec.Rotation.Pending {
		fresh, err := e.rotateIdentity(rec, identity, rec.Rotation.By)
		return c, fresh, err
	}
	if c.none() {
		return c, nil, errUnchanged
	}
	return c, nil, nil
}

// settled tells logs what settle did to the record.
func (e *editor) settled(rec *records.User, c slotChanges, replaced bool) {
	for i := range c.added {
		e.log.Info("slot added", "user", string(rec.User), "slot", slotName(&c.added[i]), "by", byConfiguration)
		e.event(context.Background(), audit.Event{User: rec.User, What: audit.SlotAdd, Cause: "unlock", By: byConfiguration, Detail: slotDetail(&c.added[i])})
	}
	for i := range c.removed {
		e.log.Info("slot revoked", "user", string(rec.User), "slot", slotName(&c.removed[i]), "by", byConfiguration)
		e.event(context.Background(), audit.Event{User: rec.User, What: audit.SlotRevoke, Cause: "unlock", By: byConfiguration, Detail: slotDetail(&c.removed[i])})
	}
	if replaced {
		e.log.Info("identity replaced", "user", string(rec.User))
		e.event(context.Background(), audit.Event{User: rec.User, What: audit.RotateStart, Cause: "unlock", By: rec.Rotation.By, Detail: "new identity"})
	}
}

// errUnchanged ends a change of a record that turned out to be none.
var errUnchanged = errors.New("nothing to change")
