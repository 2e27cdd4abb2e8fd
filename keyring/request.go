package keyring

import (
	"context"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// RecoveryRequest makes a request to a recovery key on another machine for the identity of the user, and what this machine
// keeps until the answer comes: whoever called wipes that. What Pending.Apply returns is a Proof for Recover. Errors:
// ErrNoRecovery, ErrLabel (by is too long), secret.ErrNotEnrolled, secret.ErrMemory, and what is wrong with the record.
func (e *editor) RecoveryRequest(ctx context.Context, u account.User, by string) (*recovery.Request, *recovery.Pending, error) {
	if err := checkText(by); err != nil {
		return nil, nil, err
	}
	loaded, err := e.records.Read(u)
	if err != nil {
		return nil, nil, notEnrolled(err)
	}
	var slots []recovery.Slot
	for i := range loaded.Slots {
		if s := &loaded.Slots[i]; s.Kind == slot.KindRecovery {
			slots = append(slots, recovery.Slot{ID: s.ID, Recipient: s.Recipient, Wrapped: s.Wrapped})
		}
	}
	if len(slots) == 0 {
		return nil, nil, ErrNoRecovery
	}
	store := recovery.StoreID(e.records.Store().ID)
	r, p, err := recovery.NewRequest(store, u, loaded.Public[:], slots, by, e.now())
	if err != nil {
		return nil, nil, err
	}
	e.log.Info("recovery requested", "user", string(u), "request", r.ID.String(), "by", by)
	e.event(ctx, audit.Event{User: u, What: audit.RecoveryRequest, By: by, Detail: "request " + r.ID.String()})
	return r, p, nil
}

// Escrow encrypts the site secret, 32 bytes that stay the caller's to wipe, to the configured recipients and writes that
// into the store (FORMAT.md K23). Without a recipient it is an error.
func (e *editor) Escrow(s []byte) error {
	b, err := recovery.SealSite(s, e.configured())
	if err != nil {
		return err
	}
	return e.records.SetEscrow(b)
}
