package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/export"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/fs/offline"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

func newExport(a *app) *cobra.Command {
	e := &exportVerb{app: a}
	c := &cobra.Command{
		Use:   "export USER [DIR]",
		Short: "Write a user's mail as plain files",
		Long: `Writes the mail of a user, decrypted, into a new directory or a tar stream: for the user who leaves,
or for a lawful request. It works with and without a running daemon, with nothing but the store, the
site secret, and the user's password, recovery code or recovery key; for a user who is unlocked,
nothing is asked for. The store is not changed, and the audit log tells the user of the export.

By default the result is a maildir with folders, names, flags, keywords, subscriptions, dates and
filters as they are; what a mail server makes anew (indexes, quota) and what is not delivered yet is
left out. Mail of the profiles dovecot-sdbox and cyrus becomes a maildir too; flags of the former are
in Dovecot's index and are not exported. With --mbox, each folder becomes one file of the mboxrd
format; a tar stream of such files needs room for the largest one, encrypted, beside the tar file, or
in $TMPDIR or /var/tmp if there is none.

Mail may change while it is exported; a folder that is renamed meanwhile may be there twice. A
message that is damaged is reported and left out; the rest is exported. Symbolic links are not
followed.`,
		Example: `  mailcryptfs export alice@example.org /root/alice
  mailcryptfs export alice@example.org --tar /root/alice.tar --mbox
  mailcryptfs export alice@example.org /root/alice --recovery-key /media/usb/recovery.age
  mailcryptfs export alice@example.org --tar - | age -r age1example > alice.tar.age`,
		Annotations: exits("64  wrong arguments", "65  something was damaged; the rest was exported", "66  the user has no mail in the store",
			"67  the user is not enrolled, and a secret was given", "73  the destination exists already, or cannot be made",
			"74  the store cannot be read, or the destination cannot be written", "75  it was interrupted",
			"77  wrong secret, the user is locked, or not root", "78  the configuration or the site secret cannot work"),
		Args:              e.args,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				e.dir = args[1]
			}
			return e.run(c.Context(), account.User(args[0]))
		},
	}
	c.Flags().StringVar(&e.tar, "tar", "", "write a tar stream to this new `file`; - for standard output")
	c.Flags().BoolVar(&e.mbox, "mbox", false, "write one mbox file for each folder")
	c.Flags().BoolVar(&e.asJSON, "json", false, "print the counts as a JSON object (on standard error with --tar -)")
	e.proof = newProofFlags(c, "password", "the password", "recovery-code")
	e.site = newSiteFlags(c)
	return c
}

// exportVerb is one run of the verb.
type exportVerb struct {
	*app
	dir, tar string
	mbox     bool
	asJSON   bool
	proof    *proofFlags
	site     *siteFlags
	tty      bool
}

func (e *exportVerb) args(c *cobra.Command, args []string) error {
	switch {
	case len(args) == 0 || len(args) > 2:
		return ui.Failf(ui.ExitUsage, c.CommandPath()+" --help", "export takes a user name and a directory, or --tar")
	case (len(args) == 2) == (e.tar != ""):
		return ui.Failf(ui.ExitUsage, c.CommandPath()+" --help", "export takes either a directory or --tar")
	}
	return checkUser(args[0])
}

func (e *exportVerb) run(ctx context.Context, u account.User) error {
	c, err := e.config()
	if err != nil {
		return err
	}
	if err := mustBeRoot("export mail"); err != nil {
		return err
	}
	if err := secret.Harden(); err != nil {
		return ui.Fail(ui.ExitOSErr, "", err)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	b, err := e.site.read(ctx, c)
	if err != nil {
		return err
	}
	keys, err := deriveSite(b)
	if err != nil {
		return err
	}
	defer keys.Wipe()
	source, err := e.unlock(ctx, c, keys, u)
	if err != nil {
		return err
	}
	defer source.Close()
	store, err := offline.Open(offline.Options{
		Store: c.Store, Site: keys, Keys: source, Profile: c.Profile, UserPath: c.User, Private: c.Private, Meta: c.Meta,
		RefusePlain: c.Plain == "refuse",
	})
	if err != nil {
		return ui.Fail(ui.ExitIOErr, "", err)
	}
	defer store.Close()
	if err := e.anyMail(store, u); err != nil {
		return err
	}
	dest, err := e.dest(u)
	if err != nil {
		return err
	}
	e.audit(c, keys, u)
	return e.export(ctx, c, store, u, dest)
}

// anyMail keeps a name that was misspelt from becoming an empty directory.
func (e *exportVerb) anyMail(store *offline.Store, u account.User) error {
	places, err := store.Places(u)
	if err != nil {
		return ui.Fail(ui.ExitIOErr, "", err)
	}
	for _, p := range places {
		d, err := store.Dir(p)
		if err == nil {
			d.Close()
			return nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return ui.Fail(ui.ExitIOErr, "", err)
		}
	}
	return ui.Failf(ui.ExitNoInput, "mailcryptfs who, or look for the user's directory in the view", "%s has no mail in the store", ui.Safe(string(u)))
}

func (e *exportVerb) dest(u account.User) (export.Dest, error) {
	var d export.Dest
	var err error
	switch e.tar {
	case "":
		d, err = export.NewDirectory(e.dir)
	case "-":
		d, err = export.NewTar(e.out, u.Escape(), spoolDir(), nil)
	default:
		var f *os.File
		if f, err = os.OpenFile(e.tar, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			d, err = export.NewTar(f, u.Escape(), filepath.Dir(e.tar), func() error { return errors.Join(f.Sync(), f.Close()) })
		}
	}
	if err != nil {
		return nil, ui.Fail(ui.ExitCantCreate, "name a new directory or file, on a disk that only you can read", err)
	}
	return d, nil
}

// spoolDir is where a tar stream keeps an mbox file until its size is known: /tmp may lie in memory.
func spoolDir() string {
	if dir := os.Getenv("TMPDIR"); dir != "" {
		return dir
	}
	return "/var/tmp"
}

// audit tells the user of the export, before the first byte. A store that cannot be written to, such as a backup, does
// not keep mail from being exported.
func (e *exportVerb) audit(c config.Config, keys *site.Keys, u account.User) {
	l, err := audit.Open(c.Store, keys, slog.New(slog.DiscardHandler))
	if err == nil {
		err = errors.Join(l.Append(audit.Event{User: u, What: audit.Export, By: callerName(), Detail: e.where()}), l.Close())
	}
	if err != nil {
		e.warn("the audit log does not tell of this export: %v", err)
	}
}

// callerName is who runs a verb: root, and who became root by sudo as far as that tells.
func callerName() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return "root (" + name + ")"
	}
	return "root"
}

func (e *exportVerb) where() string {
	form := export.Maildir
	if e.mbox {
		form = export.Mbox
	}
	switch e.tar {
	case "":
		return fmt.Sprintf("%s to %s", form, e.dir)
	case "-":
		return fmt.Sprintf("%s to a tar stream", form)
	}
	return fmt.Sprintf("%s to %s", form, e.tar)
}

func (e *exportVerb) export(ctx context.Context, c config.Config, store *offline.Store, u account.User, dest export.Dest) error {
	form := export.Maildir
	if e.mbox {
		form = export.Mbox
	}
	report, err := export.Run(ctx, export.Options{
		Store: store, User: u, Profile: c.Profile, Format: form, Dest: dest,
		Progress: e.progress(),
		Problem: func(path string, err error) {
			e.clear()
			e.warn("%s: not exported: %v", ui.Safe(path), err)
		},
	})
	e.clear()
	switch {
	case ctx.Err() != nil:
		return ui.Failf(ui.ExitTempFail, "remove what was written, and start again", "the export was interrupted")
	case err != nil:
		return ui.Fail(ui.ExitIOErr, "remove what was written, and start again", err)
	}
	if err := e.tell(u, report); err != nil {
		return err
	}
	if report.Failed > 0 {
		return ui.Failf(ui.ExitDataErr, "restore the files named above from a backup of the store",
			"%d files could not be read; everything else was exported", report.Failed)
	}
	return nil
}
