package keyring

import (
	"context"
	"errors"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/code"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// Slots is Ring.Slots.
func (o *Offline) Slots(u account.User) ([]SlotInfo, error) {
	loaded, err := o.records.Read(u)
	if err != nil {
		return nil, notEnrolled(err)
	}
	return o.infos(loaded.User), nil
}

// AddPassword is Ring.AddPassword; a zero proof stands for a user who was unlocked here.
func (o *Offline) AddPassword(ctx context.Context, u account.User, p Proof, password []byte, label, by string) (slot.ID, error) {
	id, err := o.addPassword(ctx, u, &p, o.held(u), password, label, by)
	return id, o.forgetCopy(u, err)
}

// AddCode is Ring.AddCode; a zero proof stands for a user who was unlocked here.
func (o *Offline) AddCode(ctx context.Context, u account.User, p Proof, label, by string) (code.Code, slot.ID, error) {
	c, id, err := o.addCode(ctx, u, &p, o.held(u), label, by)
	return c, id, o.forgetCopy(u, err)
}

// Revoke is Ring.Revoke.
func (o *Offline) Revoke(ctx context.Context, u account.User, id slot.ID, force bool, by string) error {
	return o.forgetCopy(u, o.revokeSlot(ctx, u, id, force, by))
}

// Recover is Ring.Recover: a keyring entry that opened the user goes on to do so.
func (o *Offline) Recover(ctx context.Context, u account.User, p Proof, password []byte, by string) error {
	opened := o.entryOpens(u)
	entry, err := o.recover(ctx, u, &p, o.held(u), password, by)
	if err == nil {
		defer entry.Hash.Wipe()
		err = o.renewEntry(u, opened, entry)
	}
	return o.forgetCopy(u, err)
}

// UnlockProof opens the user by a proof other than the zero one, and wipes it. Errors: ErrWrongSecret, code.ErrCode,
// secret.ErrNotEnrolled, secret.ErrLocked for a zero proof, that of ctx while waiting, and what is wrong with the record.
func (o *Offline) UnlockProof(ctx context.Context, u account.User, p Proof) error {
	defer p.wipe()
	loaded, err := o.records.Read(u)
	if err != nil {
		return notEnrolled(err)
	}
	key, err := o.opener(ctx, loaded.User, &p, nil)
	if err != nil {
		return err
	}
	defer key.wipe()
	o.mu.Lock()
	defer o.mu.Unlock()
	m, err := o.memberLocked(u)
	if err != nil {
		return err
	}
	identity, _, err := key.open(m.rec)
	if err != nil {
		return err
	}
	m.adopt(identity)
	return nil
}

// MissingRecipients is Ring.MissingRecipients.
func (o *Offline) MissingRecipients(u account.User) ([]string, error) {
	loaded, err := o.records.Read(u)
	if err != nil {
		return nil, notEnrolled(err)
	}
	return o.missing(loaded.User), nil
}

// held returns the identity of a user who was unlocked here, or nil. It stays ours.
func (o *Offline) held(u account.User) *slot.Identity {
	o.mu.Lock()
	defer o.mu.Unlock()
	if m := o.members[u]; m != nil && !o.closed {
		return m.identity
	}
	return nil
}

// forgetCopy makes the next use of the user read his record again, and returns err. The identity stays open as long as it
// is the record's.
func (o *Offline) forgetCopy(u account.User, err error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	m := o.members[u]
	if m == nil {
		return err
	}
	loaded, readErr := o.records.Read(u)
	if readErr != nil {
		return errors.Join(err, notEnrolled(readErr))
	}
	m.rec = loaded.User
	return err
}
