package keyring

import (
	"context"
	"errors"
	"log/slog"

	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// upgrade makes the slot that the entry opens anew with the parameters of the ring, if it has others: the one moment at
// which that is possible is a login. It costs one more derivation. What goes wrong is logged, and tried again at the next
// login. The caller holds login.
func (r *Ring) upgrade(ctx context.Context, m *member, before slot.Entry, password []byte, check digest) {
	if before.Params == r.o.Params {
		return
	}
	after, err := r.hash(ctx, m.record(), password)
	if err == nil {
		defer after.Hash.Wipe()
		err = r.upgradeSlot(ctx, m, before, after, check)
	}
	if err != nil {
		level := slog.LevelWarn
		if ctx.Err() != nil || overtaken(err) {
			level = slog.LevelInfo
		}
		r.log.Log(ctx, level, "a password slot keeps its old parameters until the next login", "user", string(m.user), "error", err)
		return
	}
	r.log.Info("password slot has new parameters", "user", string(m.user))
}

// overtaken reports whether somebody has destroyed or replaced the slot meanwhile, so that there is nothing to make anew.
func overtaken(err error) bool {
	return errors.Is(err, ErrStale) || errors.Is(err, ErrWrongSecret) || errors.Is(err, secret.ErrNotEnrolled)
}

func (r *Ring) upgradeSlot(ctx context.Context, m *member, before, after slot.Entry, check digest) error {
	err := r.update(m.user, func(rec *records.User) error {
		identity, sl, err := openEntry(rec, r.o.Site, before)
		if err != nil {
			return err
		}
		defer identity.Wipe()
		if err := r.checkSalt(rec, after); err != nil {
			return err
		}
		// sl points into the slots of rec; name, label and origin of the slot stay.
		return sealPassword(rec, sl, identity, after)
	})
	if err != nil {
		return err
	}
	m.slow.Lock()
	defer m.slow.Unlock()
	if err := r.refresh(m); err != nil {
		return err
	}
	// Somebody may have locked the user meanwhile.
	if !m.unlocked() || !r.entries.Has(m.name) {
		return nil
	}
	if err := r.dropEntry(ctx, m, after); err != nil {
		return err
	}
	m.remember(check)
	return nil
}
