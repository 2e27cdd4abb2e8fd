package main

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// elsewhere are the flags of verbs that work on any store, also on a machine that has nothing else of the site.
type elsewhere struct {
	*siteFlags
	store string
}

func newElsewhere(c *cobra.Command) *elsewhere {
	e := &elsewhere{siteFlags: newSiteFlags(c)}
	c.Flags().StringVar(&e.store, "store", "", "work on the store in this `directory`, without the daemon")
	return e
}

// settings returns the configuration, with the store that the command line names. A store that is named needs none.
func (e *elsewhere) settings(a *app) (config.Config, error) {
	c, err := a.config()
	if e.store == "" {
		return c, err
	}
	if errors.Is(err, config.ErrMissing) {
		c, err = config.Default(), nil
	}
	if err != nil {
		return c, err
	}
	if c.Store, err = filepath.Abs(e.store); err != nil {
		return c, ui.Fail(ui.ExitUsage, "", err)
	}
	return c, nil
}

// open is app.holder; with a store that is named, no daemon is asked. The site secret may come from its escrow, which the
// recovery key opens.
func (e *elsewhere) open(ctx context.Context, a *app, key []byte) (*holder, error) {
	c, err := e.settings(a)
	if err != nil {
		return nil, err
	}
	if e.store == "" {
		return a.holderWith(ctx, c, func() ([]byte, error) { return e.secret(ctx, a, c, key) })
	}
	return a.offlineHolder(c, func() ([]byte, error) { return e.secret(ctx, a, c, key) })
}

// secret returns the 32 bytes of the site secret, which the caller wipes: from where flags or configuration say, or else
// from its escrow in the store.
func (e *elsewhere) secret(ctx context.Context, a *app, c config.Config, key []byte) ([]byte, error) {
	b, err := e.read(ctx, c)
	if err == nil || len(key) == 0 || e.Given() || e.ask {
		return b, err
	}
	ids, keyErr := identities(key)
	if keyErr != nil {
		return nil, keyErr
	}
	b, escrowErr := openEscrow(c.Store, ids)
	if escrowErr != nil {
		code := ui.ExitConfig
		if errors.Is(escrowErr, recovery.ErrNoMatch) {
			code = ui.ExitNoPerm
		}
		return nil, ui.Failf(code, "give the site secret with --site-secret-file or --ask-site-secret", "%w; its escrow does not help: %w", err, escrowErr)
	}
	a.warn("the site secret is not here: using its copy in the store, which the recovery key opens")
	return b, nil
}

// identities parses the file of a recovery key, which stays the caller's.
func identities(key []byte) ([]age.Identity, error) {
	ids, err := recovery.ReadIdentities(bytes.NewReader(key))
	if err != nil {
		err = ui.Fail(ui.ExitDataErr, "give the file that mailcryptfs setup --recovery or age-keygen wrote", err)
	}
	return ids, err
}

// readIdentities is readKey for a key that this process uses itself.
func (a *app) readIdentities(path string) ([]age.Identity, error) {
	key, err := a.readKey(path)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(key)
	return identities(key)
}
