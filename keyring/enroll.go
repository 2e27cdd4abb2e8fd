package keyring

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// Enroll gives the user an identity, a first content key, and one password slot; he stays locked. by says who did it, at
// most 128 bytes. The password is wiped. Of several at the same time, in any process, one succeeds. Errors: ErrEnrolled,
// ErrPassword, account.ErrName, that of ctx while waiting, and what the store says.
func (r *Ring) Enroll(ctx context.Context, u account.User, password []byte, by string) error {
	defer secret.Wipe(password)
	e, err := r.enroll(ctx, u, password, by)
	if err != nil {
		return err
	}
	e.Hash.Wipe()
	return nil
}

// EnrollAndUnlock enrols the user and unlocks him with the same derivation, as a first login wants. Errors as Enroll; if
// only the second step fails the user is enrolled and locked.
func (r *Ring) EnrollAndUnlock(ctx context.Context, u account.User, password []byte, by string) error {
	defer secret.Wipe(password)
	e, err := r.enroll(ctx, u, password, by)
	if err != nil {
		return err
	}
	defer e.Hash.Wipe()
	m, err := r.member(u)
	if err != nil {
		return err
	}
	check, err := r.checkOf(m, password)
	if err != nil {
		return err
	}
	m.slow.Lock()
	defer m.slow.Unlock()
	if err := r.refresh(m); err != nil {
		return err
	}
	if err := r.dropEntry(ctx, m, e); err != nil {
		return err
	}
	m.remember(check)
	return nil
}

func (r *Ring) enroll(ctx context.Context, u account.User, password []byte, by string) (slot.Entry, error) {
	if len(password) == 0 {
		return slot.Entry{}, ErrPassword
	}
	if _, err := account.Parse(string(u)); err != nil {
		return slot.Entry{}, err
	}
	// Before the derivation, which is expensive; Create has the last word.
	enrolled, err := r.records.Enrolled(u)
	if err != nil {
		return slot.Entry{}, err
	}
	if enrolled {
		return slot.Entry{}, ErrEnrolled
	}
	if err := checkText(by); err != nil {
		return slot.Entry{}, err
	}
	rec := &records.User{User: u, Created: r.second()}
	_, _ = rand.Read(rec.Salt[:]) // never fails
	e, err := hashPassword(ctx, r.derive, rec, r.o.Site, password, r.o.Params)
	if err != nil {
		return slot.Entry{}, err
	}
	if err = r.fill(rec, e, by); err == nil {
		err = r.createRecord(rec)
	}
	if err != nil {
		e.Hash.Wipe()
		return slot.Entry{}, err
	}
	r.log.Info("user enrolled", "user", string(u), "by", by)
	r.event(ctx, audit.Event{User: u, What: audit.Enroll, By: by})
	return e, nil
}

// fill makes the identity and what belongs to it. Neither it nor the content key is kept.
func (e *editor) fill(rec *records.User, entry slot.Entry, by string) error {
	identity, err := slot.NewIdentity()
	if err != nil {
		return err
	}
	defer identity.Wipe()
	copy(rec.Public[:], identity.Public().Bytes())

	sl, err := e.passwordSlot(rec, identity, entry, firstLabel, by)
	if err != nil {
		return err
	}
	rec.Slots = []records.Slot{sl}
	if _, err := e.recoverySlots(rec, identity); err != nil {
		return err
	}

	key, err := secret.RandomKey()
	if err != nil {
		return err
	}
	defer key.Wipe()
	ck := records.ContentKey{ID: secret.RandomID(), Created: rec.Created, State: records.Current}
	if ck.Sealed, err = identity.Public().Seal(rec.User, secret.ContentKey{ID: ck.ID, Key: key}); err != nil {
		return err
	}
	rec.ContentKeys = []records.ContentKey{ck}
	return nil
}

func (r *Ring) createRecord(rec *records.User) error {
	home, err := r.records.Lock(rec.User, true)
	if err != nil {
		return err
	}
	defer home.Release()
	err = home.Create(rec)
	if errors.Is(err, records.ErrExists) {
		return fmt.Errorf("%w: %w", ErrEnrolled, err)
	}
	return err
}
