package keyring

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// firstLabel is the label of the slot that a user is enrolled with.
const firstLabel = "login password"

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
	if err := r.dropEntry(m, e); err != nil {
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
	rec := &records.User{User: u, Created: r.o.Now().UTC().Truncate(time.Second)}
	_, _ = rand.Read(rec.Salt[:]) // never fails
	e, err := hashPassword(ctx, r.derive, rec, r.o.Site, password, r.o.Params)
	if err != nil {
		return slot.Entry{}, err
	}
	if err = fillRecord(rec, e, by); err == nil {
		err = r.createRecord(rec)
	}
	if err != nil {
		e.Hash.Wipe()
		return slot.Entry{}, err
	}
	r.log.Info("user enrolled", "user", string(u), "by", by)
	return e, nil
}

// fillRecord makes the identity and what belongs to it. Neither it nor the content key is kept.
func fillRecord(rec *records.User, e slot.Entry, by string) error {
	identity, err := slot.NewIdentity()
	if err != nil {
		return err
	}
	defer identity.Wipe()
	copy(rec.Public[:], identity.Public().Bytes())

	sl := records.Slot{
		ID: slot.RandomID(), Kind: slot.KindPassword, Label: firstLabel,
		Created: rec.Created, CreatedBy: by, Params: e.Params,
	}
	kek, err := slot.PasswordKEK(e.Hash, sl.ID)
	if err != nil {
		return err
	}
	defer kek.Wipe()
	if sl.Wrapped, err = slot.Wrap(identity, kek, slot.Place{User: rec.User, Kind: sl.Kind, Slot: sl.ID}); err != nil {
		return err
	}
	rec.Slots = []records.Slot{sl}

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
