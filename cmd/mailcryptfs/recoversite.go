package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

// restoreSite writes the site secret again, from its escrow in the store or from paper. One that does not belong to the
// store is refused.
func (v *recoverRun) restoreSite(ctx context.Context) error {
	if err := mustBeRoot("write the site secret"); err != nil {
		return err
	}
	c, err := v.settings(v.app)
	if err != nil {
		return err
	}
	path, err := v.sitePath(c)
	if err != nil {
		return err
	}
	b, err := v.lostSite(ctx, c)
	if err != nil {
		return err
	}
	defer secret.Wipe(b)
	// Opening the records proves that it is the right one (FORMAT.md K12).
	o, err := v.openOffline(c, append(make([]byte, 0, len(b)), b...))
	if err != nil {
		return err
	}
	defer o.close()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return ui.Failf(ui.ExitCantCreate, "", "cannot make the directory of the site secret: %w", err)
	}
	if err := site.Write(path, b); err != nil {
		return ui.Fail(ui.ExitIOErr, "", err)
	}
	o.audit.Record(audit.Event{What: audit.Recover, By: byRecover, Peer: control.PeerOf(control.OwnPeer(ctx)), Detail: "the site secret"})
	return v.printf("wrote the site secret %s; it belongs to the store %s\n", path, c.Store)
}

// sitePath is where the site secret shall be written.
func (v *recoverRun) sitePath(c config.Config) (string, error) {
	path := v.output
	if path == "" {
		path = c.SiteSecret
	}
	if !filepath.IsAbs(path) && v.output == "" {
		return "", ui.Failf(ui.ExitUsage, "name a file with --output", "the configuration takes the site secret from %q, which is no file", path)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return "", ui.Failf(ui.ExitCantCreate, "move it away, or name another file with --output", "%s is there already and is not overwritten", path)
	}
	return path, nil
}

// lostSite returns the 32 bytes of a site secret that is not where the configuration says; the caller wipes them.
func (v *recoverRun) lostSite(ctx context.Context, c config.Config) ([]byte, error) {
	if v.elsewhere.Given() || v.ask {
		return v.read(ctx, c)
	}
	if v.proof.key == "" {
		return nil, ui.Failf(ui.ExitUsage, "mailcryptfs recover --help", "give --recovery-key FILE, or --ask-site-secret to type it from paper")
	}
	ids, err := v.readIdentities(v.proof.key)
	if err != nil {
		return nil, err
	}
	b, err := openEscrow(c.Store, ids)
	if err != nil {
		return nil, ui.Fail(ui.ExitNoPerm, "type it from paper: --ask-site-secret", err)
	}
	return b, nil
}
