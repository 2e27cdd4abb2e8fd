package keyring

import (
	"errors"
	"fmt"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/internal/tmpfs"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// entryOf parses the user's keyring entry; the caller wipes its hash. Errors: secret.ErrLocked without an entry or a
// directory, and what is wrong with the entry.
func (o *Offline) entryOf(u account.User) (slot.Entry, error) {
	if o.entries == nil {
		return slot.Entry{}, secret.ErrLocked
	}
	content, err := o.entries.Read(u.Escape())
	if errors.Is(err, tmpfs.ErrNotFound) {
		return slot.Entry{}, secret.ErrLocked
	}
	if err != nil {
		return slot.Entry{}, err
	}
	defer secret.Wipe(content)
	return slot.ParseEntry(content)
}

// entryOpens tells whether the user has a keyring entry that opens his record of this moment.
func (o *Offline) entryOpens(u account.User) bool {
	e, err := o.entryOf(u)
	if err != nil {
		return false
	}
	defer e.Hash.Wipe()
	loaded, err := o.records.Read(u)
	if err != nil {
		return false
	}
	identity, _, err := openEntry(loaded.User, o.site, e)
	if err != nil {
		return false
	}
	identity.Wipe()
	return true
}

// renewEntry puts an entry of the new password in the place of one that opened the user before the password was set, and
// does not any more: left there it would be stale, and its user locked by the next daemon. An entry that was stale before
// stays so. fresh stays the caller's.
func (o *Offline) renewEntry(u account.User, opened bool, fresh slot.Entry) error {
	if !opened || o.entryOpens(u) {
		return nil
	}
	err := o.entries.Check()
	if err == nil && !o.entries.Has(u.Escape()) {
		return nil // he was locked meanwhile
	}
	if err == nil {
		err = o.writeEntry(u, fresh)
	}
	if err != nil {
		return fmt.Errorf("the password was set, but the keyring entry was not: %w", err)
	}
	return nil
}

func (o *Offline) writeEntry(u account.User, e slot.Entry) error {
	content, err := e.Encode()
	if err != nil {
		return err
	}
	defer secret.Wipe(content)
	return o.entries.Write(u.Escape(), content)
}
