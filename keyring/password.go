package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/internal/tmpfs"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// WasReset is what Status says of a user whose password was set by somebody who did not know the old one.
const WasReset = "the password was reset without the old one: it opens no slot; run mailcryptfs passwd with the old password"

// wrongPassword notes for Status that a password that the login accepted opens no slot, unless more is known.
func (m *member) wrongPassword() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lastErr != WasReset {
		m.lastErr = "a password that was accepted opened no slot: it was changed elsewhere; run mailcryptfs passwd with the old one"
	}
}

// ChangePassword makes the slot that old opens open with new instead, derived with the ring's parameters; label and
// number of slots stay. The record is replaced atomically, its previous version is kept (FORMAT.md K13). Sessions of an
// unlocked user go on, and the keyring entry is replaced by one that opens the slot; a locked user stays locked. by says
// who did it. Both passwords are wiped. Errors: ErrWrongSecret (old opens nothing; nothing changed), ErrPassword,
// secret.ErrNotEnrolled, that of ctx while waiting, and what is wrong with record or keyring directory.
func (r *Ring) ChangePassword(ctx context.Context, u account.User, old, new []byte, by string) error {
	defer secret.Wipe(old)
	defer secret.Wipe(new)
	if len(old) == 0 || len(new) == 0 {
		return ErrPassword
	}
	return r.rewrap(ctx, u, new, by, audit.PasswordChange, func(m *member) (slot.Entry, error) {
		return findEntry(ctx, r.derive, m.record(), r.o.Site, old)
	})
}

// ResetPassword is ChangePassword for somebody who does not know the old password: it works while the user is unlocked,
// on the slot that unlocked him. The password is wiped. Errors as ChangePassword; secret.ErrLocked if the user is locked:
// then nothing is changed but what Status says (WasReset).
func (r *Ring) ResetPassword(ctx context.Context, u account.User, new []byte, by string) error {
	defer secret.Wipe(new)
	if len(new) == 0 {
		return ErrPassword
	}
	err := r.rewrap(ctx, u, new, by, audit.PasswordReset, func(m *member) (slot.Entry, error) {
		e, err := r.entryOf(m)
		if errors.Is(err, secret.ErrLocked) {
			m.note(WasReset)
		}
		return e, err
	})
	if errors.Is(err, ErrWrongSecret) && r.Holds(u) {
		// The slot that unlocked him was revoked; his session goes on, and so does what he may do.
		return r.Recover(ctx, u, Proof{}, bytes.Clone(new), by)
	}
	return err
}

// entryOf parses the keyring entry of an unlocked member; the caller wipes its hash.
func (r *Ring) entryOf(m *member) (slot.Entry, error) {
	content, err := r.entries.Read(m.name)
	if errors.Is(err, tmpfs.ErrNotFound) || err == nil && !m.unlocked() {
		secret.Wipe(content)
		return slot.Entry{}, secret.ErrLocked
	}
	if err != nil {
		return slot.Entry{}, err
	}
	defer secret.Wipe(content)
	return slot.ParseEntry(content)
}

// rewrap wraps the identity that the entry of find opens under a new password, in the same slot.
func (r *Ring) rewrap(ctx context.Context, u account.User, new []byte, by, what string, find func(*member) (slot.Entry, error)) error {
	m, err := r.member(u)
	if err != nil {
		return err
	}
	check, err := r.checkOf(m, new)
	if err != nil {
		return err
	}
	select {
	case m.login <- struct{}{}:
		defer func() { <-m.login }()
	case <-ctx.Done():
		return fmt.Errorf("while waiting for another login of the user: %w", ctx.Err())
	}
	m.slow.Lock()
	err = r.refresh(m)
	m.slow.Unlock()
	if err != nil {
		return err
	}
	before, err := find(m)
	if err != nil {
		return err
	}
	defer before.Hash.Wipe()
	after, err := hashPassword(ctx, r.derive, m.record(), r.o.Site, new, r.o.Params)
	if err != nil {
		return err
	}
	defer after.Hash.Wipe()
	if err := r.replaceSlot(u, before, after, by); err != nil {
		return err
	}
	r.log.Info("password changed", "user", string(u), "by", by)
	// The entry first: until it is replaced it opens nothing.
	defer r.event(ctx, audit.Event{User: u, What: what, By: by})
	m.slow.Lock()
	defer m.slow.Unlock()
	err = r.refresh(m)
	if err == nil {
		err = m.warning()
	}
	if err != nil {
		return fmt.Errorf("the password was changed, but the record cannot be read back: %w", err)
	}
	// Without the entry he is about to be locked.
	if !m.unlocked() || !r.entries.Has(m.name) {
		m.note("")
		return nil
	}
	if err := r.dropEntry(ctx, m, after); err != nil {
		return fmt.Errorf("the password was changed, but the keyring entry was not: %w", err)
	}
	m.remember(check)
	return nil
}

// replaceSlot changes the record: the slot that before opens will be opened by after.
func (r *Ring) replaceSlot(u account.User, before, after slot.Entry, by string) error {
	return r.update(u, func(rec *records.User) error {
		// By the record of this moment: the slot may be gone, or another identity's.
		identity, sl, err := openEntry(rec, r.o.Site, before)
		if errors.Is(err, ErrStale) {
			return ErrWrongSecret
		}
		if err != nil {
			return err
		}
		defer identity.Wipe()
		if err := r.checkSalt(rec, after); err != nil {
			return err
		}
		// sl points into the slots of rec.
		*sl, err = r.passwordSlot(rec, identity, after, sl.Label, by)
		return err
	})
}
