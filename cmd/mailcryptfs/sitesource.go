package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/sitesecret"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

const (
	sitePrompt = "Site secret of mailcryptfs (the line of its file, or the groups on paper)"
	siteNext   = "restore it with mailcryptfs recover --site-secret, or from its copy; prepare a new site with: mailcryptfs setup"
)

// siteFlags say where the site secret comes from, if not from where the configuration says.
type siteFlags struct {
	*ui.PasswordSource
	ask bool
}

func newSiteFlags(c *cobra.Command) *siteFlags {
	s := &siteFlags{PasswordSource: secretFlags(c, "site-secret", "the site secret")}
	c.Flags().BoolVar(&s.ask, "ask-site-secret", false, "ask for the site secret, whatever the configuration says")
	return s
}

// read returns the 32 bytes of the site secret, which the caller wipes.
func (s *siteFlags) read(ctx context.Context, c config.Config) ([]byte, error) {
	if err := secret.Harden(); err != nil {
		return nil, ui.Fail(ui.ExitOSErr, "", err)
	}
	name, isCredential := strings.CutPrefix(c.SiteSecret, config.CredentialPrefix)
	switch {
	case s.Given():
		return s.typed(s.Read(sitePrompt, false))
	case s.ask || c.SiteSecret == config.AskSecret:
		return s.typed(askSite(ctx))
	case isCredential:
		b, err := site.Read(sitesecret.CredentialPath(name))
		if err != nil {
			err = ui.Fail(ui.ExitConfig, "LoadCredentialEncrypted="+name+" in the unit; verbs find it while the daemon runs, or take --ask-site-secret", err)
		}
		return b, err
	}
	b, err := site.Read(c.SiteSecret)
	if err != nil {
		err = ui.Fail(ui.ExitConfig, siteNext, err)
	}
	return b, err
}

// askSite asks on the terminal, or as services do.
func askSite(ctx context.Context) ([]byte, error) {
	if tty, err := os.Open("/dev/tty"); err == nil {
		isTerminal := term.IsTerminal(int(tty.Fd()))
		if err := tty.Close(); err == nil && isTerminal {
			return ui.PasswordSource{FD: -1, Name: "site-secret"}.Read(sitePrompt, false)
		}
	}
	return ui.AskAgent(ctx, sitePrompt)
}

// typed turns what somebody typed into the secret, and wipes it.
func (s *siteFlags) typed(text []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(text)
	b, err := sitesecret.Parse(text)
	if errors.Is(err, sitesecret.ErrText) {
		err = ui.Fail(ui.ExitNoPerm, "compare it with the paper, group by group", err)
	}
	return b, err
}

// loadSite reads the site secret from where the configuration says, and derives its keys, which the caller wipes.
func loadSite(c config.Config) (*site.Keys, error) {
	none := &siteFlags{PasswordSource: &ui.PasswordSource{FD: -1}}
	b, err := none.read(context.Background(), c)
	if err != nil {
		return nil, err
	}
	return deriveSite(b)
}

// openSite reads the configuration and the keys of its site, for a verb that only root can use, to do what; the caller wipes
// the keys.
func (a *app) openSite(what string) (config.Config, *site.Keys, error) {
	c, err := a.config()
	if err != nil {
		return c, nil, err
	}
	if err := mustBeRoot(what); err != nil {
		return c, nil, err
	}
	if err := secret.Harden(); err != nil {
		return c, nil, ui.Fail(ui.ExitOSErr, "", err)
	}
	keys, err := loadSite(c)
	return c, keys, err
}

// deriveSite takes over the 32 bytes of a site secret.
func deriveSite(b []byte) (*site.Keys, error) {
	keys, err := site.Derive(b)
	if err != nil {
		err = ui.Fail(ui.ExitOSErr, "raise LimitMEMLOCK of the unit (ulimit -l)", err)
	}
	return keys, err
}

// keepSite copies a site secret into locked memory, for its escrow; the caller wipes the copy, and keeps b.
func keepSite(b []byte) (*secret.Key, error) {
	k, err := secret.NewKey(bytes.Clone(b))
	if err != nil {
		err = ui.Fail(ui.ExitOSErr, "raise LimitMEMLOCK of the unit (ulimit -l)", err)
	}
	return k, err
}
