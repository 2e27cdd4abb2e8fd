package main

import (
	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/sitesecret"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

var recoveryExits = []string{"64  wrong arguments", "65  a user has no way back, or a file is damaged", "66  a file that was named is not there",
	"73  a file is in the way; nothing was overwritten", "74  a file could not be written", "77  the recovery key opens nothing, or not root",
	"78  the configuration or the site secret cannot work"}

func newRecovery(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "recovery",
		Short: "Look after recovery keys and the site secret",
		Long: `Proves that the recovery keys open what they should, splits one among several custodians, and puts the
site secret on paper. Making a pair of keys is the task of mailcryptfs setup --recovery, using one that
of mailcryptfs recover.`,
		Example: `  mailcryptfs recovery drill --recovery-key /media/stick/recovery.key
  mailcryptfs recovery paper --sheet site-secret.html`,
		Annotations: exits(recoveryExits...),
		Args:        unknownPart,
		RunE:        unknownPart,
	}
	c.AddCommand(newDrill(a), newSplit(a), newCombine(a), newPaper(a))
	return c
}

func newPaper(a *app) *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:   "paper",
		Short: "Put the site secret on paper",
		Long: `Prints the site secret on a sheet, in groups that can be typed again and that check themselves, with a
QR code on a page for a printer. Without the site secret no password opens any mail.`,
		Example: `  mailcryptfs recovery paper
  mailcryptfs recovery paper --sheet site-secret.html`,
		Annotations:       exits(recoveryExits...),
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	s := newSiteFlags(c)
	c.Flags().StringVar(&path, "sheet", "", "write the sheet to this new `file` (.html, .svg or .txt) instead of printing it")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if path != "" {
			if err := checkSheet(path); err != nil {
				return err
			}
		}
		if err := mustBeRoot("read the site secret"); err != nil {
			return err
		}
		conf, err := a.config()
		if err != nil {
			return err
		}
		b, err := s.read(c.Context(), conf)
		if err != nil {
			return err
		}
		defer secret.Wipe(b)
		line := site.Encode(b)
		defer secret.Wipe(line)
		return a.showSheet(siteSheet(conf.Store, sitesecret.Paper(b), line[:len(line)-1]), path)
	}
	return c
}
