package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"filippo.io/age"

	"github.com/mailcryptfs/mailcryptfs/keyring/code"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// Proof is what shows that somebody may change a user's keys: one of its fields. The zero Proof stands for the identity
// of a user who is unlocked. Methods that take a Proof wipe Password, Code and Identity, whatever they return.
type Proof struct {
	Password   []byte         // of any slot of kind password
	Code       []byte         // a recovery code as it was typed
	Identities []age.Identity // recovery keys
	Identity   *slot.Identity // the answer of a recovery key on another machine
}

func (p *Proof) wipe() {
	secret.Wipe(p.Password)
	secret.Wipe(p.Code)
	if p.Identity != nil {
		p.Identity.Wipe()
	}
}

func (p *Proof) isZero() bool {
	return p.Password == nil && p.Code == nil && p.Identities == nil && p.Identity == nil
}

// cause says for the log what kind of proof it was.
func (p *Proof) cause() string {
	switch {
	case p.Password != nil:
		return "password"
	case p.Code != nil:
		return "recovery code"
	case p.Identities != nil:
		return "recovery key"
	case p.Identity != nil:
		return "answer of a recovery key"
	}
	return "unlocked user"
}

// opener opens the identity of a record without anything that takes long: so it can be used while the record is locked,
// on the record of that moment.
type opener struct {
	open func(rec *records.User) (*slot.Identity, *records.Slot, error)
	wipe func()
}

// opener does what takes long: for a password one Argon2id run for each set of parameters that slots have. held is the
// identity for a zero proof, nil if there is none; it stays the caller's. Errors: ErrWrongSecret, code.ErrCode,
// secret.ErrLocked, that of ctx while waiting, secret.ErrMemory.
func (e *editor) opener(ctx context.Context, rec *records.User, p *Proof, held *slot.Identity) (opener, error) {
	switch {
	case p.Password != nil:
		entry, err := findEntry(ctx, e.derive, rec, e.site, p.Password)
		return opener{func(rec *records.User) (*slot.Identity, *records.Slot, error) {
			identity, sl, err := openEntry(rec, e.site, entry)
			if errors.Is(err, ErrStale) {
				err = ErrWrongSecret
			}
			return identity, sl, err
		}, func() { entry.Hash.Wipe() }}, err
	case p.Code != nil:
		c, err := code.Parse(p.Code)
		return opener{func(rec *records.User) (*slot.Identity, *records.Slot, error) { return openCode(rec, c) }, c.Wipe}, err
	case p.Identities != nil:
		return opener{func(rec *records.User) (*slot.Identity, *records.Slot, error) {
			return openRecovery(rec, p.Identities)
		}, func() {}}, nil
	case p.Identity != nil:
		held = p.Identity
	}
	if held == nil {
		return opener{}, secret.ErrLocked
	}
	own, err := held.Clone()
	if err != nil {
		return opener{}, lockedIfWiped(err)
	}
	return opener{func(rec *records.User) (*slot.Identity, *records.Slot, error) {
		identity, err := openHeld(rec, own)
		return identity, nil, err
	}, own.Wipe}, nil
}

// lockedIfWiped says in terms of users that an identity is gone.
func lockedIfWiped(err error) error {
	if errors.Is(err, secret.ErrWiped) {
		return secret.ErrLocked
	}
	return err
}

// openHeld checks that an identity that was opened before is still that of the record. The caller wipes the result.
func openHeld(rec *records.User, held *slot.Identity) (*slot.Identity, error) {
	if !slices.Equal(held.Public().Bytes(), rec.Public[:]) {
		return nil, fmt.Errorf("%w: the identity was replaced meanwhile", slot.ErrForeign)
	}
	identity, err := held.Clone()
	return identity, lockedIfWiped(err)
}

// openCode opens the identity with a recovery code, which stays the caller's. Error: ErrWrongSecret.
func openCode(rec *records.User, c code.Code) (*slot.Identity, *records.Slot, error) {
	for i := range rec.Slots {
		sl := &rec.Slots[i]
		if sl.Kind != slot.KindCode {
			continue
		}
		seed, err := c.Seed(place(rec, sl))
		if err != nil {
			return nil, nil, err
		}
		identity, err := slot.Unwrap(sl.Wrapped, seed, sl.Public, place(rec, sl), rec.Public[:])
		seed.Wipe()
		if !errors.Is(err, slot.ErrWrongSecret) {
			return identity, sl, err
		}
	}
	return nil, nil, ErrWrongSecret
}

// openRecovery opens the identity with recovery keys. Errors: ErrWrongSecret with recovery.ErrNoMatch, or with
// ErrNoRecovery if the user has no slot for any recovery key.
func openRecovery(rec *records.User, ids []age.Identity) (*slot.Identity, *records.Slot, error) {
	wrong := fmt.Errorf("%w: %w", ErrWrongSecret, ErrNoRecovery)
	for i := range rec.Slots {
		sl := &rec.Slots[i]
		if sl.Kind != slot.KindRecovery {
			continue
		}
		identity, err := recovery.Unwrap(sl.Wrapped, ids, place(rec, sl), rec.Public[:])
		if errors.Is(err, recovery.ErrNoMatch) || errors.Is(err, slot.ErrWrongSecret) {
			wrong = fmt.Errorf("%w: %w", ErrWrongSecret, recovery.ErrNoMatch)
			continue
		}
		return identity, sl, err
	}
	return nil, nil, wrong
}

// place is where a slot of the record belongs.
func place(rec *records.User, sl *records.Slot) slot.Place {
	return slot.Place{User: rec.User, Kind: sl.Kind, Slot: sl.ID}
}
