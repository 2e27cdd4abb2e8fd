package keyring

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/internal/tmpfs"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// Unlock unlocks the user with a password: it derives the hash, drops it into the keyring directory, and loads what the
// hash opens. Of a user who is unlocked, a password that was given before is recognised without a derivation. The
// password is wiped. Errors: ErrWrongSecret (the user stays as before), secret.ErrNotEnrolled, that of ctx while
// waiting, secret.ErrMemory, and what is wrong with record or keyring directory.
func (r *Ring) Unlock(ctx context.Context, u account.User, password []byte) error {
	defer secret.Wipe(password)
	m, err := r.member(u)
	if err != nil {
		return err
	}
	check, err := r.checkOf(m, password)
	if err != nil {
		return err
	}
	if r.recognises(m, check) {
		return nil
	}
	select {
	case m.login <- struct{}{}:
		defer func() { <-m.login }()
	case <-ctx.Done():
		return fmt.Errorf("while waiting for another login of the user: %w", ctx.Err())
	}
	// The login that was waited for may have had the same password.
	if r.recognises(m, check) {
		return nil
	}
	err = r.unlock(ctx, m, password, check)
	if errors.Is(err, ErrWrongSecret) {
		m.wrongPassword()
	}
	return err
}

// unlock derives and loads. The caller holds login.
func (r *Ring) unlock(ctx context.Context, m *member, password []byte, check digest) error {
	m.slow.Lock()
	err := r.refresh(m)
	m.slow.Unlock()
	if err != nil {
		return err
	}
	e, err := findEntry(ctx, r.derive, m.record(), r.o.Site, password)
	if err != nil {
		return err
	}
	defer e.Hash.Wipe()
	if err := r.unlockWith(ctx, m, e, check); err != nil {
		return err
	}
	r.upgrade(ctx, m, e, password, check)
	return nil
}

// unlockWith loads what the entry opens, and remembers its password.
func (r *Ring) unlockWith(ctx context.Context, m *member, e slot.Entry, check digest) error {
	m.slow.Lock()
	defer m.slow.Unlock()
	// Derivation takes long, and a slot may be gone since.
	if err := r.refresh(m); err != nil {
		return err
	}
	if err := r.dropEntry(ctx, m, e); err != nil {
		return err
	}
	m.remember(check)
	return nil
}

// dropEntry writes the entry and loads it. The caller holds slow.
func (r *Ring) dropEntry(ctx context.Context, m *member, e slot.Entry) error {
	content, err := e.Encode()
	if err != nil {
		return err
	}
	defer secret.Wipe(content)
	// First what opens, then the entry: one that opens nothing is never left behind by us.
	identity, sl, err := openEntry(m.record(), r.o.Site, e)
	if errors.Is(err, ErrStale) {
		return ErrWrongSecret
	}
	if err != nil {
		return err
	}
	if err := r.entries.Check(); err != nil {
		identity.Wipe()
		return err
	}
	if err := r.entries.Write(m.name, content); err != nil {
		identity.Wipe()
		return err
	}
	entry, err := r.digest("entry", m.name, content)
	if err != nil {
		identity.Wipe()
		return err
	}
	if err := r.adopt(ctx, m, identity, slotName(sl), entry); err != nil {
		return err
	}
	r.used(m.record(), sl.ID)
	return nil
}

// Lock removes the user's entry and wipes his keys, those of a delivery epoch included: what arrives next gets a new one.
// It returns secret.ErrLocked if there was neither entry nor identity. KeysGone has returned when it returns nil.
func (r *Ring) Lock(u account.User) error {
	gone, err := r.lock(u)
	if gone && r.o.KeysGone != nil {
		r.o.KeysGone(u)
	}
	return err
}

// lock is Lock without telling that keys were wiped, which it reports.
func (r *Ring) lock(u account.User) (gone bool, err error) {
	removed := r.entries.Remove(u.Escape())
	if removed != nil && !errors.Is(removed, tmpfs.ErrNotFound) {
		return false, removed
	}
	if m := r.lookup(u); m != nil {
		m.slow.Lock()
		defer m.slow.Unlock()
		// An unlock may have come between; the last word is ours.
		if err := r.entries.Remove(u.Escape()); err != nil && !errors.Is(err, tmpfs.ErrNotFound) {
			return false, err
		}
		unlocked := m.unlocked()
		gone = r.dropMember(m, "told to")
		if unlocked {
			return gone, nil
		}
	}
	if removed != nil {
		return gone, secret.ErrLocked
	}
	return true, nil // Watch may have been faster, and have told nobody yet
}

// LockUnused is Lock for a user who has not logged in since used, which is what Status said of him, or for any with a zero
// used; why is for the logs. It reports whether he was locked: who has logged in since stays unlocked.
func (r *Ring) LockUnused(u account.User, used time.Time, why string) (bool, error) {
	m := r.lookup(u)
	if m == nil {
		return false, nil
	}
	m.slow.Lock()
	defer m.slow.Unlock()
	if err := r.entries.Check(); err != nil {
		return false, err
	}
	// Keys first, then the entry: a login that is recognised at this moment finds both, or none.
	if !m.dropIf(func() bool { return used.IsZero() || m.used.Equal(used) }) {
		return false, nil
	}
	m.endEpochs()
	r.locked(m, why)
	r.keysGone(u)
	if err := r.entries.Remove(u.Escape()); err != nil && !errors.Is(err, tmpfs.ErrNotFound) {
		return true, err
	}
	return true, nil
}

// recognises tells whether the password behind check opened a slot since the user was unlocked, and his entry is there:
// its removal locks him even before we are told of it.
func (r *Ring) recognises(m *member, check digest) bool {
	return r.entries.Has(m.name) && m.recognises(check, r.o.Now())
}

// checkOf returns what recognises the password. Without the process key nothing can be learned from it.
func (r *Ring) checkOf(m *member, password []byte) (digest, error) {
	return r.digest("password", m.name, password)
}

// digest is an HMAC under the random key of this process.
func (r *Ring) digest(purpose, name string, b []byte) (digest, error) {
	var d digest
	err := r.process.Use(func(key []byte) error {
		secret.Do(func() {
			h := hmac.New(sha256.New, key)
			h.Write([]byte(purpose + "\x00" + name + "\x00"))
			h.Write(b)
			h.Sum(d[:0])
		})
		return nil
	})
	if err != nil {
		return digest{}, ErrClosed
	}
	return d, nil
}
