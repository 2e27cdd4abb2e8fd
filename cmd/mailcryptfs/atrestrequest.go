package main

import (
	"errors"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// request makes a request for the user's key. Errors: secret.ErrNotEnrolled, recovery.ErrNoMatch for a user without a slot
// for a recovery key.
func (k *keysAtRest) request(store string, u account.User) (*recovery.Request, *recovery.Pending, error) {
	dir, err := records.Open(store, k.site.RecordMAC)
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()
	loaded, err := dir.Read(u)
	if errors.Is(err, records.ErrNotFound) {
		return nil, nil, secret.ErrNotEnrolled
	}
	if err != nil {
		return nil, nil, err
	}
	var slots []recovery.Slot
	for _, s := range loaded.Slots {
		if s.Kind == slot.KindRecovery {
			slots = append(slots, recovery.Slot{ID: s.ID, Recipient: s.Recipient, Wrapped: s.Wrapped})
		}
	}
	return recovery.NewRequest(recovery.StoreID(dir.Store().ID), u, loaded.Public[:], slots, byRecover, time.Now())
}
