package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// daemonKeys is what the daemon holds of keys, from its start to its end.
type daemonKeys struct {
	store   string
	secret  *secret.Key // the site secret itself, for its escrow to recovery keys that are configured later
	site    *site.Keys
	ring    *keyring.Ring
	policy  *policy
	tally   *tally
	journal *journal
	gone    atomic.Pointer[func(account.User)] // the ring is there before the view
}

// openKeys reads the site secret and opens what it protects.
func openKeys(ctx context.Context, o daemonOptions, p recoveryPolicy) (*daemonKeys, error) {
	b, err := o.site.read(ctx, o.config)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(b)
	k := &daemonKeys{store: o.config.Store, policy: newPolicy(p), tally: newTally()}
	if err := k.open(ctx, o, b); err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

func (k *daemonKeys) open(ctx context.Context, o daemonOptions, b []byte) (err error) {
	if k.secret, err = keepSite(b); err != nil {
		return err
	}
	if k.site, err = deriveSite(b); err != nil {
		return err
	}
	c := o.config
	log, err := audit.Open(c.Store, k.site, o.log)
	if err != nil {
		return ui.Fail(ui.ExitConfig, "restore site secret and store as a pair, or prepare a new site with: mailcryptfs setup", err)
	}
	k.journal = &journal{log: log, store: c.Store, site: k.site, changed: k.tally.changed}
	k.ring, err = keyring.Open(ctx, keyring.Options{
		Store: c.Store, Dir: c.Keyring, Site: k.site,
		Params: slot.Params{MemoryKiB: c.KDFMemoryKiB, Time: c.KDFTime, Threads: c.KDFThreads},
		Epoch:  c.Epoch, MaxDerivations: c.MaxDerivations, Log: o.log, Now: time.Now, KeysGone: k.keysGone,
		Recipients: k.policy.recipients(), Audit: k.journal.record, Cluster: c.Cluster, KeysCame: later(eraseDelay, eraser()),
	})
	if err != nil {
		return ui.Fail(ui.ExitConfig, "restore site secret and store as a pair, or prepare a new site with: mailcryptfs setup", err)
	}
	return nil
}

func (k *daemonKeys) keysGone(u account.User) {
	if f := k.gone.Load(); f != nil {
		(*f)(u)
	}
}

// escrow gives the site secret to the recovery keys, in the store.
func (k *daemonKeys) escrow(to []recovery.Recipient) error {
	return k.secret.Use(func(b []byte) error { return escrowSite(k.store, b, to) })
}

// close wipes everything, in the opposite order.
func (k *daemonKeys) close() {
	if k.ring != nil {
		k.ring.Close()
	}
	if k.journal != nil {
		_ = k.journal.log.Close() // it has told its log
	}
	if k.site != nil {
		k.site.Wipe()
	}
	if k.secret != nil {
		k.secret.Wipe()
	}
}
