package keyring

import (
	"context"
	"fmt"

	"filippo.io/age"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// Rotate is Ring.Rotate: of a user who was unlocked here the identity is replaced at once. What is sealed under old keys
// waits for a daemon.
func (o *Offline) Rotate(ctx context.Context, u account.User, identity bool, by string) error {
	fresh, err := o.rotate(ctx, u, identity, o.held(u), by)
	if fresh != nil {
		// The record says whether it counts; nothing needs it here.
		fresh.Wipe()
		o.mu.Lock()
		if m := o.members[u]; m != nil {
			m.wipe()
			delete(o.members, u)
		}
		o.mu.Unlock()
	}
	return o.forgetCopy(u, err)
}

// Rotation is Ring.Rotation.
func (o *Offline) Rotation(u account.User) (Rotation, bool, error) {
	loaded, err := o.records.Read(u)
	if err != nil {
		return Rotation{}, false, notEnrolled(err)
	}
	retired, err := o.retiredDeliveries(loaded.User)
	if err != nil {
		return Rotation{}, false, err
	}
	x, ok := rotation(loaded.User, len(retired))
	return x, ok, nil
}

// ChangePassword is Ring.ChangePassword: a keyring entry that opened the user goes on to do so.
func (o *Offline) ChangePassword(ctx context.Context, u account.User, old, new []byte, by string) error {
	p := Proof{Password: old}
	defer p.wipe()
	defer secret.Wipe(new)
	if len(old) == 0 {
		return ErrPassword
	}
	if err := checkText(by); err != nil {
		return err
	}
	loaded, err := o.records.Read(u)
	if err != nil {
		return notEnrolled(err)
	}
	entry, err := o.hash(ctx, loaded.User, new)
	if err != nil {
		return err
	}
	defer entry.Hash.Wipe()
	opened := o.entryOpens(u)
	err = o.open(ctx, u, &p, nil, func(rec *records.User, identity *slot.Identity, sl *records.Slot) error {
		if err := o.checkSalt(rec, entry); err != nil {
			return err
		}
		// sl points into the slots of rec.
		var err error
		*sl, err = o.passwordSlot(rec, identity, entry, sl.Label, by)
		return err
	})
	if err != nil {
		return o.forgetCopy(u, err)
	}
	o.log.Info("password changed", "user", string(u), "by", by)
	o.event(ctx, audit.Event{User: u, What: audit.PasswordChange, By: by})
	return o.forgetCopy(u, o.renewEntry(u, opened, entry))
}

// Drill proves that one of the recovery keys opens the user's identity, and that it opens his current content key; no mail
// is opened, and nothing is kept. Errors: ErrWrongSecret with ErrNoRecovery (the user has no slot for a recovery key) or
// recovery.ErrNoMatch (none of these opens one), secret.ErrNotEnrolled, and what is wrong with the record, also if the
// previous version of it took its place.
func (o *Offline) Drill(u account.User, ids []age.Identity) error {
	loaded, err := o.records.Read(u)
	if err != nil {
		return notEnrolled(err)
	}
	identity, sl, err := openRecovery(loaded.User, ids)
	if err != nil {
		return err
	}
	defer identity.Wipe()
	current := loaded.Current()
	key, err := identity.Open(u, current.ID, current.Sealed)
	if err != nil {
		return fmt.Errorf("slot %s opens, but not the current content key: %w", sl.ID, err)
	}
	key.Wipe()
	return loaded.Warning
}
