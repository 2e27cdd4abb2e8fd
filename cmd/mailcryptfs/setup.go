package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/mountpoint"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

func newSetup(a *app) *cobra.Command {
	d := config.Default()
	v := &setup{app: a}
	c := &cobra.Command{
		Use:   "setup",
		Short: "Prepare this machine: directories, site secret, store, configuration",
		Long: `Makes what is missing for a daemon to start: the configuration file (from the flags, with comments),
the site secret, the store with its record, the keyring directory in memory, and the guarded mount
point. What is there already is checked and kept; nothing is ever overwritten, so it can be run again.
The settings can also come from a configuration file that is there already.

With --adopt, a store directory that already holds plain mail is taken over as it is: the view serves
those files, and new ones are encrypted.

With --recovery, a recovery key is made besides: a pair of keys of which the public half goes into the
configuration, so that it opens the mail of every user enrolled from now on, and of all others at their
next unlock. The private half is written to FILE, or to standard output with -, and nowhere else. It
belongs on a removable medium or another machine: whoever has it and the store can read all mail.`,
		Example: `  mailcryptfs setup
  mailcryptfs setup --recovery /media/stick/recovery.key
  mailcryptfs setup --store /data/mail.store --view /srv/mail --profile dovecot-maildir --user %d/%n`,
		Annotations: exits("64  wrong arguments", "71  the system refused a directory or a mount",
			"73  something that is there already is in the way; nothing was overwritten", "77  not root",
			"78  the settings, the site secret or the store cannot work"),
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := c.Flags()
	f.StringVar(&d.Store, "store", d.Store, "encrypted tree, a `directory`")
	f.StringVar(&d.View, "view", d.View, "mount point, a `directory`")
	f.StringVar(&d.Profile, "profile", d.Profile, "\"maildir\", \"dovecot-maildir\", \"dovecot-sdbox\" or \"cyrus\", the `kind` of mail server")
	f.StringVar(&d.User, "user", d.User, "`template` of a user's directory below the view")
	f.StringVar(&d.SiteSecret, "site-secret", d.SiteSecret, "`file` for the site secret")
	f.StringVar(&d.Keyring, "keyring", d.Keyring, "`directory` in memory for unlocked users")
	f.StringVar(&d.Control, "control", d.Control, "control `socket`")
	f.BoolVar(&v.adopt, "adopt", false, "take over a store directory that holds plain mail")
	f.StringVar(&v.recovery, "recovery", "", "make a recovery key and write its private half to this new `file`, - for standard output")
	f.BoolVar(&v.classic, "classic", false, "make a recovery key without post-quantum protection, for tools that know no other")
	v.flags, v.site = f, &siteFlags{PasswordSource: &ui.PasswordSource{FD: -1}}
	c.RunE = func(c *cobra.Command, _ []string) error {
		return v.run(c.Context(), d)
	}
	return c
}

// setup is one run of the verb.
type setup struct {
	*app
	flags    *pflag.FlagSet
	adopt    bool
	recovery string     // file for the private half of a recovery key; "" for none
	classic  bool       // X25519 alone
	site     *siteFlags // where the configuration says
	made     []string   // what was made, for people
	existed  bool       // the configuration was there before
}

func (s *setup) run(ctx context.Context, fromFlags config.Config) error {
	if err := mustBeRoot("prepare a machine"); err != nil {
		return err
	}
	if err := secret.Harden(); err != nil {
		return ui.Fail(ui.ExitOSErr, "", err)
	}
	c, exists, err := s.settings(fromFlags)
	if err != nil {
		return err
	}
	if err := checkLayout(s.configPath, c); err != nil {
		return err
	}
	// The configuration comes last: whoever finds one finds a prepared machine.
	if err := errors.Join(s.makeStore(ctx, c), s.makeMachine(c)); err != nil {
		return err
	}
	s.existed = exists
	if !exists {
		if err := writeNew(s.configPath, config.Render(c)); err != nil {
			return err
		}
		s.note("configuration", s.configPath)
	}
	if s.recovery != "" {
		if err := s.addRecovery(ctx, c); err != nil {
			return errors.Join(err, s.report(c))
		}
	}
	return s.report(c)
}

// settings takes the configuration file if there is one, and otherwise what the flags say.
func (s *setup) settings(fromFlags config.Config) (c config.Config, exists bool, err error) {
	c, err = s.config()
	if err == nil {
		return c, true, s.refuseFlags()
	}
	if !errors.Is(err, config.ErrMissing) {
		return c, false, err
	}
	if err := fromFlags.Validate(); err != nil {
		return c, false, ui.Fail(ui.ExitConfig, "mailcryptfs setup --help", err)
	}
	return fromFlags, false, nil
}

// refuseFlags fails if a flag would have to change a configuration file that is there.
func (s *setup) refuseFlags() error {
	var given error
	s.flags.Visit(func(f *pflag.Flag) {
		if !slices.Contains([]string{"config", "adopt", "recovery", "classic", "help"}, f.Name) {
			given = ui.Failf(ui.ExitCantCreate, "leave --"+f.Name+" out, or edit the file",
				"%s is there already and is not overwritten", s.configPath)
		}
	})
	return given
}

// makeStore makes the store, its record and the site secret, or checks that they belong together.
func (s *setup) makeStore(ctx context.Context, c config.Config) error {
	recorded, err := s.makeStoreDir(c.Store)
	if err != nil {
		return err
	}
	keys, err := s.siteSecret(ctx, c, recorded)
	if err != nil {
		return err
	}
	defer keys.Wipe()
	err = keyring.Setup(c.Store, keys, time.Now())
	if errors.Is(err, records.ErrExists) {
		return checkStore(c.Store, keys)
	}
	if err != nil {
		return ui.Fail(ui.ExitConfig, "choose another store", err)
	}
	s.note("store", c.Store)
	return nil
}

// checkStore makes sure that a store that was prepared before belongs to this site secret (FORMAT.md K12).
func checkStore(store string, keys *site.Keys) error {
	dir, err := records.Open(store, keys.RecordMAC)
	if err != nil {
		return ui.Fail(ui.ExitConfig, "restore the site secret that this store was made with, or choose another store", err)
	}
	dir.Close()
	return nil
}

// makeStoreDir makes the directory if it is missing, and reports whether it holds a store record. Its parents are made
// for root alone, so that only the view leads to mail.
func (s *setup) makeStoreDir(store string) (recorded bool, err error) {
	if err := os.MkdirAll(filepath.Dir(store), 0o700); err != nil {
		return false, ui.Failf(ui.ExitOSErr, "", "cannot make the directory above the store: %w", err)
	}
	if err := os.Mkdir(store, 0o755); err == nil || !errors.Is(err, os.ErrExist) {
		if err != nil {
			err = ui.Failf(ui.ExitOSErr, "", "cannot make the store: %w", err)
		}
		return false, err
	}
	entries, err := os.ReadDir(store)
	if err != nil {
		return false, ui.Failf(ui.ExitOSErr, "set store to a directory", "cannot list the store: %w", err)
	}
	foreign := ""
	for _, e := range entries {
		if e.Name() == records.DirName {
			_, err := os.Lstat(filepath.Join(store, records.DirName, "store.toml"))
			recorded = err == nil
		} else {
			foreign = e.Name()
		}
	}
	if !recorded && !s.adopt && foreign != "" {
		return false, ui.Failf(ui.ExitCantCreate, "add --adopt to take its files over as they are, or choose another store",
			"%s is not a store and not empty: it holds %q", store, foreign)
	}
	return recorded, nil
}

// siteSecret loads the site secret, or makes one, but never for a store that was made with another, nor for a place that
// is not a file.
func (s *setup) siteSecret(ctx context.Context, c config.Config, recorded bool) (*site.Keys, error) {
	path := c.SiteSecret
	_, err := os.Lstat(path)
	if filepath.IsAbs(path) && errors.Is(err, os.ErrNotExist) {
		if recorded {
			return nil, ui.Failf(ui.ExitConfig, "restore it from its copy (mailcryptfs recover --site-secret): a new one could not open this store",
				"the store was prepared before, but its site secret %s is missing", path)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, ui.Failf(ui.ExitOSErr, "", "cannot make the directory of the site secret: %w", err)
		}
		if err := site.Generate(path); err != nil {
			return nil, ui.Fail(ui.ExitOSErr, "", err)
		}
		s.note("site secret", path)
	}
	b, err := s.site.read(ctx, c)
	if err != nil {
		return nil, err
	}
	return deriveSite(b)
}

// makeMachine makes what lives outside the store: the keyring in memory, and the mount point unless a view is mounted.
func (s *setup) makeMachine(c config.Config) error {
	if at, err := mountpoint.Resolve(c.View); err == nil {
		if mounts, err := mountpoint.At(at); err == nil && len(mounts) > 0 {
			return nil // serve judges what is mounted there
		}
	}
	return prepareDirs(c, slog.New(slog.NewTextHandler(io.Discard, nil)))
}

func (s *setup) note(what, path string) {
	s.made = append(s.made, fmt.Sprintf("made the %s %s\n", what, path))
}

// report tells people what was done: on standard output, unless a key was written there.
func (s *setup) report(c config.Config) error {
	out := *s.app
	if s.recovery == "-" {
		out.out = s.err
	}
	for _, line := range s.made {
		if err := out.printf("%s", line); err != nil {
			return err
		}
	}
	switch {
	case len(s.made) == 0:
		return out.printf("%s: everything was there already\n", s.configPath)
	case s.existed:
		return nil
	}
	return out.printf(`
Next steps:
  1. Keep a copy of the site secret outside this machine: mailcryptfs recovery paper.
     Without it nobody, with any password, can read the mail again.
  2. systemctl enable --now mailcryptfs     (or: mailcryptfs serve)
  3. mailcryptfs enroll USER                (once for each user)
  4. Let the mail server use %s as its mail directory.
`, c.View)
}

// writeNew writes a file that must not exist, durably.
func writeNew(path string, text []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return ui.Failf(ui.ExitOSErr, "", "cannot make the directory of the configuration: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return ui.Failf(ui.ExitCantCreate, "", "cannot write the configuration: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return ui.Failf(ui.ExitIOErr, "", "cannot write the configuration: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}
