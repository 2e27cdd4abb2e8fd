package main

import (
	"log/slog"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/memdir"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// keysAtRest works on the key records of a store without a daemon.
type keysAtRest struct {
	slotKeeper
	ring  *keyring.Offline
	audit *audit.Log
	site  *site.Keys
}

// openOffline takes over the 32 bytes of the site secret. What happens to keys is written to the audit log of the store.
func (a *app) openOffline(c config.Config, siteSecret []byte) (*keysAtRest, error) {
	keys, err := deriveSite(siteSecret)
	if err != nil {
		return nil, err
	}
	o := &keysAtRest{site: keys}
	if err := o.open(a, c); err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

func (o *keysAtRest) open(a *app, c config.Config) (err error) {
	// What is worth a line on a terminal is said by the verb itself.
	log := slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	p, err := recoveryPolicyOf(a.configPath, c)
	if err != nil {
		return err
	}
	if o.audit, err = audit.Open(c.Store, o.site, log); err != nil {
		return ui.Fail(ui.ExitConfig, "name the store with --store, or restore it", err)
	}
	dir := "" // where a daemon left entries of unlocked users, these follow a changed password
	if there, err := memdir.InMemory(c.Keyring); err == nil && there {
		dir = c.Keyring
	}
	o.ring, err = keyring.OpenOfflineOptions(keyring.Options{
		Store: c.Store, Dir: dir, Site: o.site, Params: slot.Params{MemoryKiB: c.KDFMemoryKiB, Time: c.KDFTime, Threads: c.KDFThreads},
		Recipients: p.recipients, Audit: o.audit.Record, Log: log, Now: time.Now,
	})
	if err != nil {
		return ui.Fail(ui.ExitConfig, "give the site secret that this store was made with", err)
	}
	o.slotKeeper = slotKeeper{slots: o.ring, recipients: func() []recovery.Recipient { return p.recipients }}
	return nil
}

// close completes the audit log and wipes the keys.
func (o *keysAtRest) close() {
	if o.ring != nil {
		o.ring.Close()
	}
	if o.audit != nil {
		_ = o.audit.Close() // it has told its log
	}
	o.site.Wipe()
}
