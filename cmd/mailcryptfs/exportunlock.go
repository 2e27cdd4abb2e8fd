package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

// unlock opens the user's keys: by the secret that is given, else by the entry in the keyring. A user who is not enrolled
// needs no key.
func (e *exportVerb) unlock(ctx context.Context, c config.Config, keys *site.Keys, u account.User) (*keyring.Offline, error) {
	open := func() (*keyring.Offline, error) {
		dir := c.Keyring
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			dir = "" // no daemon has run since the machine started
		}
		return keyring.OpenOffline(c.Store, dir, keys)
	}
	if !e.proof.given() {
		return unlockByEntry(open, u)
	}
	o, err := open()
	if err != nil {
		return nil, ui.Fail(ui.ExitIOErr, "mailcryptfs verify", err)
	}
	if err := e.prove(ctx, o, u); err != nil {
		o.Close()
		return nil, err
	}
	return o, nil
}

func (e *exportVerb) prove(ctx context.Context, o *keyring.Offline, u account.User) error {
	given, err := e.proof.read(e.app, string(u), "Password of "+ui.Safe(string(u)))
	if err != nil {
		return err
	}
	defer given.Wipe()
	proof, err := proofOf(given)
	if err != nil {
		return explain(string(u), err)
	}
	return explain(string(u), translate(o.UnlockProof(ctx, u, proof)))
}

// Whoever changes a password replaces the key record first and the keyring entry then: for so long an entry that does not
// fit is read again, and so often.
const (
	entryBehind = time.Second
	entryEvery  = 20 * time.Millisecond
)

// unlockByEntry opens the keys of a user who is unlocked. It opens record and entry anew each time: what was read of one
// may be older than the other.
func unlockByEntry(open func() (*keyring.Offline, error), u account.User) (*keyring.Offline, error) {
	for began := time.Now(); ; time.Sleep(entryEvery) {
		o, err := open()
		if err != nil {
			return nil, ui.Fail(ui.ExitIOErr, "mailcryptfs verify", err)
		}
		if errors.Is(o.Warning(u), secret.ErrNotEnrolled) {
			return o, nil
		}
		if err = o.UnlockByEntry(u); err == nil {
			return o, nil
		}
		o.Close()
		switch {
		case errors.Is(err, keyring.ErrStale) && time.Since(began) < entryBehind:
			continue
		case errors.Is(err, secret.ErrLocked):
			return nil, ui.Failf(ui.ExitNoPerm, "mailcryptfs unlock "+ui.Quote(string(u))+", or give the password, the recovery code or the recovery key, see: mailcryptfs export --help",
				"%s is locked: the user's key is needed", ui.Safe(string(u)))
		}
		return nil, ui.Fail(ui.ExitIOErr, "mailcryptfs verify", err)
	}
}
