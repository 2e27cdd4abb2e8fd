package keyring

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

var (
	// ErrRotation says that the rotation that was seen is not the one of now, or waits for the user's next unlock, as all do
	// that are under way while he is locked.
	ErrRotation = errors.New("the rotation cannot end yet: another one began, or it waits for the next unlock")
	// ErrRotating says that a rotation is under way, and another would add nothing to it but a key that nobody needs.
	ErrRotating = errors.New("a rotation is under way: it goes on while the user is unlocked")
	// ErrTooSoon says that daemons on other hosts may not have noticed the rotation yet.
	ErrTooSoon = errors.New("the rotation cannot end yet: other hosts may still use the old keys")
)

// maxRetired is how many old content keys a record has at most when Rotate adds no more. Each rotation of an identity makes
// a content key old too, one that was pending makes two: so this bounds the replaced identities as well (FORMAT.md K10).
const maxRetired = 16

// Rotation is one that is under way: a new content key is in use, old ones wait until nothing is sealed under them.
type Rotation struct {
	Started  time.Time `json:"started"` // also tells one rotation from another
	By       string    `json:"by"`
	Identity bool      `json:"identity"` // the identity is replaced too
	Pending  bool      `json:"pending"`  // that waits for the user's next unlock
	Keys     int       `json:"keys"`     // old content keys, delivery keys and identities that are to be destroyed
}

// newContentKey gives the record a new current content key, sealed to its identity, and returns the key, which the caller
// wipes. Those of before are old from now on.
func (e *editor) newContentKey(rec *records.User) (secret.ContentKey, error) {
	public, err := slot.ParsePublic(rec.Public[:])
	if err != nil {
		return secret.ContentKey{}, err
	}
	ck := secret.ContentKey{ID: secret.RandomID()}
	if ck.Key, err = secret.RandomKey(); err != nil {
		return secret.ContentKey{}, err
	}
	sealed, err := public.Seal(rec.User, ck)
	if err != nil {
		ck.Key.Wipe()
		return secret.ContentKey{}, err
	}
	for i := range rec.ContentKeys {
		rec.ContentKeys[i].State = records.Old
	}
	rec.ContentKeys = append(rec.ContentKeys, records.ContentKey{ID: ck.ID, Created: e.second(), State: records.Current, Sealed: sealed})
	return ck, nil
}

// startRotation marks all keys but the current content key as old: the rotation counts as begun after all there are, also
// if the clock that one of them was made by was ahead of this one. The caller holds the lock of the record.
func (e *editor) startRotation(rec *records.User, by string, identity, pending bool) error {
	started := e.second()
	if rec.Rotation != nil && !started.After(rec.Rotation.Started) {
		started = rec.Rotation.Started.Add(time.Second)
	}
	err := e.eachDelivery(rec.User, func(d *records.Delivery) {
		if d.Created.After(started) {
			started = d.Created
		}
	})
	if err != nil {
		return err
	}
	rec.Rotation = &records.Rotation{Started: started, By: by, Identity: identity, Pending: pending}
	return nil
}

// checkRotating refuses a rotation that would only fill the record. A locked user whose identity is to be replaced gets new
// keys of every kind at his next unlock anyhow.
func checkRotating(rec *records.User, locked bool) error {
	if rec.Rotation == nil {
		return nil
	}
	if rec.Rotation.Pending && locked || len(rec.ContentKeys)-1 >= maxRetired {
		return ErrRotating
	}
	return nil
}

// rotateContent changes the record for a new content key; asked says that the identity shall be replaced too, later.
func (e *editor) rotateContent(rec *records.User, asked bool, by string) error {
	ck, err := e.newContentKey(rec)
	if err != nil {
		return err
	}
	ck.Key.Wipe()
	old := rec.Rotation
	return e.startRotation(rec, by, asked || old != nil && old.Identity, asked || old != nil && old.Pending)
}

// rotateIdentity changes the record for a new identity, and a new content key that the old one never opened. identity is
// the one of the record. The caller wipes the new one.
func (e *editor) rotateIdentity(rec *records.User, identity *slot.Identity, by string) (*slot.Identity, error) {
	fresh, err := slot.NewIdentity()
	if err != nil {
		return nil, err
	}
	if err := e.replaceIdentity(rec, identity, fresh, by); err != nil {
		fresh.Wipe()
		return nil, err
	}
	return fresh, nil
}

func (e *editor) replaceIdentity(rec *records.User, old, fresh *slot.Identity, by string) error {
	for i := range rec.ContentKeys {
		ck := &rec.ContentKeys[i]
		key, err := old.Open(rec.User, ck.ID, ck.Sealed)
		if err != nil {
			return fmt.Errorf("content key %s: %w", ck.ID, err)
		}
		ck.Sealed, err = fresh.Public().Seal(rec.User, secret.ContentKey{ID: ck.ID, Key: key})
		key.Wipe()
		if err != nil {
			return err
		}
	}
	for i := range rec.Identities {
		p := &rec.Identities[i]
		older, err := old.OpenPrevious(rec.User, p.Sealed, p.Public[:])
		if err != nil {
			return fmt.Errorf("replaced identity of %s: %w", p.Replaced.Format(time.DateOnly), err)
		}
		p.Sealed, err = fresh.Public().SealPrevious(rec.User, older)
		older.Wipe()
		if err != nil {
			return err
		}
	}
	previous := records.PreviousIdentity{Public: rec.Public, Replaced: e.second()}
	var err error
	if previous.Sealed, err = fresh.Public().SealPrevious(rec.User, old); err != nil {
		return err
	}
	rec.Identities = append(rec.Identities, previous)
	copy(rec.Public[:], fresh.Public().Bytes())
	for i := range rec.Slots {
		if err := reseal(rec, &rec.Slots[i], fresh); err != nil {
			return err
		}
	}
	ck, err := e.newContentKey(rec)
	if err != nil {
		return err
	}
	ck.Key.Wipe()
	// Delivery keys that came since a rotation was asked for are sealed to the old identity: they are old too.
	return e.startRotation(rec, by, true, false)
}

// updateBoth is update, after which the previous version of the record is the same as the record: damage to the record
// must not lose a key that content is sealed under.
func (e *editor) updateBoth(u account.User, change func(rec *records.User) error) error {
	home, err := e.records.Lock(u, false)
	if err != nil {
		return notEnrolled(err)
	}
	defer home.Release()
	if err := home.Update(change); err != nil {
		return notEnrolled(err)
	}
	return home.Repeat()
}

// rotate is Rotate; held is the identity of the user, nil if he is locked. It returns the new identity if there is one,
// also together with an error: the record says whether it counts.
func (e *editor) rotate(ctx context.Context, u account.User, identity bool, held *slot.Identity, by string) (*slot.Identity, error) {
	if err := checkText(by); err != nil {
		return nil, err
	}
	var fresh *slot.Identity
	var changed *records.User
	err := e.updateBoth(u, func(rec *records.User) error {
		if err := checkRotating(rec, held == nil); err != nil {
			return err
		}
		changed = rec
		if !identity || held == nil {
			return e.rotateContent(rec, identity, by)
		}
		old, err := openHeld(rec, held)
		if err != nil {
			return err
		}
		defer old.Wipe()
		fresh, err = e.rotateIdentity(rec, old, by)
		return err
	})
	if err != nil && !e.inPlace(changed) {
		return fresh, err
	}
	e.log.Info("rotation began", "user", string(u), "identity", identity, "by", by)
	e.event(ctx, audit.Event{User: u, What: audit.RotateStart, By: by, Detail: rotationDetail(identity, fresh != nil)})
	return fresh, err
}

// inPlace tells whether a record with a new content key became the user's although writing it failed at some step. Nil: no.
func (e *editor) inPlace(changed *records.User) bool {
	if changed == nil {
		return false
	}
	loaded, err := e.records.Read(changed.User)
	return err == nil && loaded.Current().ID == changed.Current().ID
}

func rotationDetail(identity, done bool) string {
	switch {
	case !identity:
		return "new content key"
	case done:
		return "new content key, new identity"
	}
	return "new content key; new identity at the next unlock"
}

// rotation describes the rotation of a record; false if there is none. retired is how many delivery keys are old.
func rotation(rec *records.User, retired int) (Rotation, bool) {
	if rec.Rotation == nil {
		return Rotation{}, false
	}
	keys := retired + len(rec.Identities)
	for i := range rec.ContentKeys {
		if rec.ContentKeys[i].State == records.Old {
			keys++
		}
	}
	x := rec.Rotation
	return Rotation{Started: x.Started, By: x.By, Identity: x.Identity, Pending: x.Pending, Keys: keys}, true
}

// retiredDeliveries lists the delivery keys that are not younger than the rotation of the record.
func (e *editor) retiredDeliveries(rec *records.User) (map[secret.ID]struct{}, error) {
	retired := make(map[secret.ID]struct{})
	if rec.Rotation == nil {
		return retired, nil
	}
	err := e.eachDelivery(rec.User, func(d *records.Delivery) {
		if !d.Created.After(rec.Rotation.Started) {
			retired[d.ID] = struct{}{}
		}
	})
	return retired, err
}

// endRotation destroys old keys; it can be repeated after a failure at any step, because the record says until the last
// one that a rotation is under way.
func (e *editor) endRotation(home *records.Home, retired map[secret.ID]struct{}) error {
	err := home.Purge(func(rec *records.User) error {
		current := *rec.Current()
		rec.ContentKeys = []records.ContentKey{current}
		rec.Identities = nil
		return nil
	})
	if err != nil {
		return err
	}
	ids := make([]secret.ID, 0, len(retired))
	for id := range retired {
		ids = append(ids, id)
	}
	if err := home.DestroyDelivery(ids...); err != nil {
		return err
	}
	return home.Update(func(rec *records.User) error {
		rec.Rotation = nil
		return nil
	})
}
