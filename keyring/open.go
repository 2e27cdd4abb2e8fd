package keyring

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// openEntry opens the identity with what a keyring entry says, and tells by which slot. The caller wipes the identity;
// the entry's hash stays the caller's. Error: ErrStale.
func openEntry(rec *records.User, s *site.Keys, e slot.Entry) (*slot.Identity, *records.Slot, error) {
	salt, err := s.ArgonSalt(rec.Salt[:])
	if err != nil {
		return nil, nil, err
	}
	if !slices.Equal(salt, e.Salt[:]) {
		return nil, nil, fmt.Errorf("%w: its salt is not the user's", ErrStale)
	}
	for i := range rec.Slots {
		sl := &rec.Slots[i]
		if sl.Kind != slot.KindPassword || sl.Params != e.Params {
			continue
		}
		identity, err := unwrap(rec, sl, e.Hash)
		if !errors.Is(err, slot.ErrWrongSecret) {
			return identity, sl, err
		}
	}
	return nil, nil, ErrStale
}

func unwrap(rec *records.User, sl *records.Slot, hash *secret.Key) (*slot.Identity, error) {
	seed, err := slot.PasswordSeed(hash, sl.ID)
	if err != nil {
		return nil, err
	}
	defer seed.Wipe()
	return slot.Unwrap(sl.Wrapped, seed, sl.Public, place(rec, sl), rec.Public[:])
}

// findEntry derives the keyring entry by which the password opens a slot: one Argon2id run for each set of parameters
// that the slots have (FORMAT.md K6). The password stays the caller's to wipe; the caller wipes the entry's hash.
// tokens bounds the runs. Errors: ErrWrongSecret, and that of ctx.
func findEntry(ctx context.Context, tokens chan struct{}, rec *records.User, s *site.Keys, password []byte) (slot.Entry, error) {
	var tried []slot.Params
	for i := range rec.Slots {
		sl := &rec.Slots[i]
		if sl.Kind != slot.KindPassword || slices.Contains(tried, sl.Params) {
			continue
		}
		tried = append(tried, sl.Params)
		e, err := hashPassword(ctx, tokens, rec, s, password, sl.Params)
		if err != nil {
			return slot.Entry{}, err
		}
		identity, _, err := openEntry(rec, s, e)
		if err == nil {
			identity.Wipe()
			return e, nil
		}
		e.Hash.Wipe()
		if !errors.Is(err, ErrStale) {
			return slot.Entry{}, err
		}
	}
	return slot.Entry{}, ErrWrongSecret
}

// hashPassword runs Argon2id when its turn comes.
func hashPassword(ctx context.Context, tokens chan struct{}, rec *records.User, s *site.Keys, password []byte, p slot.Params) (slot.Entry, error) {
	salt, err := s.ArgonSalt(rec.Salt[:])
	if err != nil {
		return slot.Entry{}, err
	}
	e := slot.Entry{Params: p, Salt: slot.Salt(salt)}
	select {
	case tokens <- struct{}{}:
		defer func() { <-tokens }()
	case <-ctx.Done():
		return slot.Entry{}, fmt.Errorf("while waiting to derive a key: %w", ctx.Err())
	}
	e.Hash, err = slot.Hash(password, e.Salt, p)
	// Before the next run takes its turn, and so the memory of this one: else the heap grows to a multiple of what the
	// runs at one time need.
	runtime.GC()
	return e, err
}

// slotName is what Status and the log call a slot.
func slotName(sl *records.Slot) string {
	if sl.Label != "" {
		return fmt.Sprintf("%s %q", sl.Kind, sl.Label)
	}
	return fmt.Sprintf("%s %s", sl.Kind, sl.ID)
}
