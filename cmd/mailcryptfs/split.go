package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// maxShare is the size of the largest file of a share that is read, in bytes.
const maxShare = 64 << 10

// split is one run of the verb.
type split struct {
	*app
	key            string
	shares, needed int
	to             string
}

func newSplit(a *app) *cobra.Command {
	v := &split{app: a}
	c := &cobra.Command{
		Use:   "split",
		Short: "Split a recovery key among custodians",
		Long: `Splits the private half of a recovery key into shares, one for each custodian, of which any --needed bring
it back (recovery combine). Fewer of them tell nothing about the key. The shares are written into a
directory, share-1.txt and so on; give each to its custodian, and remove them and the key.

Do this on the machine where the key was made, not on the mail server. It needs nothing of the site.`,
		Example:           `  mailcryptfs recovery split --recovery-key recovery.key --shares 5 --needed 3 --to /media/stick`,
		Annotations:       exits(recoveryExits...),
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return v.run() },
	}
	f := c.Flags()
	f.StringVar(&v.key, "recovery-key", "", "the recovery key in this `file`; - for standard input")
	f.IntVar(&v.shares, "shares", 5, "make `N` shares")
	f.IntVar(&v.needed, "needed", 3, "`K` of them bring the key back")
	f.StringVar(&v.to, "to", "", "write the shares into this `directory`")
	return c
}

func (v *split) run() error {
	if v.key == "" || v.to == "" {
		return ui.Failf(ui.ExitUsage, "mailcryptfs recovery split --help", "give --recovery-key FILE and --to DIRECTORY")
	}
	key, err := v.readKey(v.key)
	if err != nil {
		return err
	}
	defer secret.Wipe(key)
	if _, err := identities(key); err != nil {
		return err // shares of something else would be found out too late
	}
	shares, err := recovery.Split(key, v.shares, v.needed)
	if err != nil {
		return ui.Fail(ui.ExitUsage, "mailcryptfs recovery split --help", err)
	}
	defer func() {
		for _, s := range shares {
			secret.Wipe(s)
		}
	}()
	for i, s := range shares {
		if err := writeSecret(filepath.Join(v.to, fmt.Sprintf("share-%d.txt", i+1)), s); err != nil {
			return err
		}
	}
	v.warnMedium(v.to, "move each share to its custodian")
	return v.printf("wrote %d shares to %s; any %d of them bring the key back\n", v.shares, v.to, v.needed)
}

func newCombine(a *app) *cobra.Command {
	var to string
	c := &cobra.Command{
		Use:   "combine SHARE...",
		Short: "Bring a recovery key back from shares",
		Long: `Brings the private half of a recovery key back from the shares in the files that are named: at least as
many as are needed, of the same split. It is written to a new file, or to standard output.`,
		Example:     `  mailcryptfs recovery combine share-1.txt share-4.txt share-5.txt --to /dev/shm/recovery.key`,
		Annotations: exits(recoveryExits...),
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return ui.Failf(ui.ExitUsage, c.CommandPath()+" --help", "combine takes the files of shares")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error { return a.combine(args, to) },
	}
	c.Flags().StringVar(&to, "to", "-", "write the recovery key to this new `file`; - for standard output")
	return c
}

func (a *app) combine(files []string, to string) error {
	var texts [][]byte
	defer func() {
		for _, t := range texts {
			secret.Wipe(t)
		}
	}()
	for _, file := range files {
		text, _, err := ui.ReadSecretFile(file, maxShare)
		if err != nil {
			return err
		}
		texts = append(texts, text)
		if _, err := recovery.ReadShare(text); err != nil {
			return carried(file, err)
		}
	}
	key, err := recovery.Combine(texts)
	switch {
	case errors.Is(err, recovery.ErrTooFew):
		return ui.Fail(ui.ExitNoInput, "ask further custodians", err)
	case err != nil:
		return ui.Fail(ui.ExitDataErr, "give shares of one split, as they were written", err)
	}
	defer secret.Wipe(key)
	text := append(append(make([]byte, 0, len(key)+1), key...), '\n') // which reading the key took away
	defer secret.Wipe(text)
	if to != "-" {
		if err := writeSecret(to, text); err != nil {
			return err
		}
		return a.printf("wrote the recovery key %s\n", to)
	}
	if _, err := a.out.Write(text); err != nil {
		return ui.Failf(ui.ExitIOErr, "", "cannot write the recovery key: %w", err)
	}
	return nil
}
