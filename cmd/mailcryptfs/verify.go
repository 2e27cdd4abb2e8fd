package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/fs/check"
	"github.com/mailcryptfs/mailcryptfs/keyring"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

func newVerify(a *app) *cobra.Command {
	v := &verify{app: a}
	c := &cobra.Command{
		Use:   "verify [PATH...]",
		Short: "Look for damage in the store, and change nothing",
		Long: `Checks every name, header, block and key record of the store, or what lies below the given paths of
the view or the store. It works with and without a running daemon and never changes anything.

What belongs to the site, and the mail of users who are unlocked, is opened completely. Of locked
users, everything that shows without their keys is checked; with --user and their password, their
mail is opened too.

Messages that somebody deleted or put back to an older state do not show by themselves. A manifest
lists the messages of today; kept away from the store, it shows later which of them are gone (their
owners may have deleted them) or were exchanged. Flags, moves and encryption anew change nothing.`,
		Example: `  mailcryptfs verify
  mailcryptfs verify --user alice@example.org --password-fd 3 3</run/secrets/alice
  mailcryptfs verify --write-manifest /mnt/stick/manifest
  mailcryptfs verify --manifest /mnt/stick/manifest
  mailcryptfs verify --json /srv/mail/alice@example.org | jq .summary`,
		Annotations: exits("0   no damage was found", "64  wrong arguments", "65  damage was found", "66  a path or the manifest is not there",
			"67  no password can open mail of a user who is not enrolled", "74  the store cannot be read", "75  it was interrupted", "77  wrong password, or not root",
			"78  the configuration or the site secret cannot work"),
		RunE: func(c *cobra.Command, args []string) error { return v.run(c.Context(), args) },
	}
	c.Flags().BoolVar(&v.asJSON, "json", false, "print one JSON object")
	c.Flags().StringVar(&v.user, "user", "", "check only what belongs to this `user`")
	c.Flags().StringVar(&v.manifest.write, "write-manifest", "", "list the messages in a new `file`, to be kept away from the store")
	c.Flags().StringVar(&v.manifest.read, "manifest", "", "compare with the messages that this `file` lists")
	v.password = passwordFlags(c)
	return c
}

// verify is one run of the verb.
type verify struct {
	*app
	asJSON   bool
	user     string
	password *ui.PasswordSource
	manifest manifests
}

func (v *verify) run(ctx context.Context, paths []string) error {
	if err := v.judge(paths); err != nil {
		return err
	}
	c, keys, err := v.openSite("read the store")
	if err != nil {
		return err
	}
	defer keys.Wipe()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	source, closeSource, err := v.keys(ctx, c, keys)
	if err != nil {
		return err
	}
	defer closeSource()
	return v.check(ctx, c, keys, source, paths)
}

func (v *verify) judge(paths []string) error {
	switch {
	case v.manifest.any() && len(paths) > 0:
		return ui.Failf(ui.ExitUsage, "leave the paths out, or name one user with --user", "a manifest is of all messages, or of all of one user")
	case v.user != "":
		return checkUser(v.user)
	case v.passwordGiven():
		return ui.Failf(ui.ExitUsage, "add --user USER", "a password opens the mail of one user only")
	}
	return nil
}

// keys opens whoever can be opened: the unlocked users by their keyring entries, and --user by the password if one was
// given. When key records or keyring cannot be used at all, everybody counts as locked, and the check says why.
func (v *verify) keys(ctx context.Context, c config.Config, keys *site.Keys) (check.Keys, func(), error) {
	dir := c.Keyring
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		dir = "" // no daemon has run since the machine started
	}
	frozen, thaw, err := check.Freeze(c.Store) // reading key records leaves no trace either
	if err != nil {
		return nil, nil, ui.Fail(ui.ExitIOErr, "", err)
	}
	source := &frozenKeys{frozen: frozen, store: c.Store}
	source.Offline, err = keyring.OpenOffline(frozen, dir, keys)
	if err != nil {
		thaw()
		return nil, func() {}, v.withoutKeys(source.named(err))
	}
	release := func() {
		source.Close()
		thaw()
	}
	if v.passwordGiven() {
		err = source.named(v.openByPassword(ctx, source.Offline))
	} else {
		v.openByEntries(source)
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return source, release, nil
}

func (v *verify) passwordGiven() bool { return v.password.FD >= 0 || v.password.File != "" }

// withoutKeys says that the check goes on with everybody locked, or fails where a password was given.
func (v *verify) withoutKeys(err error) error {
	if v.passwordGiven() {
		return ui.Fail(ui.ExitIOErr, "mailcryptfs verify, without a password, says what is wrong", err)
	}
	v.warn("cannot open any user's mail: %v", err)
	return nil
}

// frozenKeys are the keys of a store that is read through check.Freeze; its errors name the paths of the store.
type frozenKeys struct {
	*keyring.Offline
	frozen, store string
}

// OpeningKey implements check.Keys.
func (k *frozenKeys) OpeningKey(u account.User, id secret.ID) (*secret.Key, error) {
	key, err := k.Offline.OpeningKey(u, id)
	return key, k.named(err)
}

func (k *frozenKeys) named(err error) error {
	if err == nil || k.frozen == k.store || !strings.Contains(err.Error(), k.frozen) {
		return err
	}
	return &namedError{err, strings.ReplaceAll(err.Error(), k.frozen, k.store)}
}

// namedError is an error in other words.
type namedError struct {
	error
	text string
}

func (e *namedError) Error() string { return e.text }
func (e *namedError) Unwrap() error { return e.error }

func (v *verify) openByPassword(ctx context.Context, offline *keyring.Offline) error {
	password, err := readPassword(v.password, "Password of "+ui.Safe(v.user), false)
	if err != nil {
		return err
	}
	return explain(v.user, translate(offline.Unlock(ctx, account.User(v.user), password)))
}

// openByEntries opens the users that have keyring entries. One that does not open is told and counts as locked.
func (v *verify) openByEntries(source *frozenKeys) {
	users, err := source.Users()
	if err != nil {
		v.warn("%v", source.named(err)) // the check reports each of these too
	}
	if v.user != "" {
		users = []account.User{account.User(v.user)}
	}
	for _, u := range users {
		err := source.UnlockByEntry(u)
		switch {
		case err == nil, errors.Is(err, secret.ErrLocked), errors.Is(err, secret.ErrNotEnrolled):
		default:
			v.warn("cannot open the mail of %s: %v", ui.Safe(string(u)), source.named(err))
		}
	}
}

func (v *verify) check(ctx context.Context, c config.Config, keys *site.Keys, source check.Keys, paths []string) error {
	for i, p := range paths {
		abs, err := filepath.Abs(p)
		if err != nil {
			return ui.Fail(ui.ExitUsage, "", err)
		}
		paths[i] = abs
	}
	expected, err := v.manifest.load(c, keys)
	if err != nil {
		return err
	}
	list, err := v.manifest.begin(c, keys, account.User(v.user))
	if err != nil {
		return err
	}
	defer list.discard()
	report := newReport(v.app, v.asJSON)
	summary, err := check.Verify(ctx, check.Options{
		Store: c.Store, View: c.View, Site: keys, Keys: source,
		Profile: c.Profile, UserPath: c.User, Private: c.Private, Meta: c.Meta, RefusePlain: c.Plain == "refuse", PlainNames: c.Names == "plain",
		WriteManifest: list.writer(), Manifest: expected,
		Epoch: c.Epoch, Paths: paths, User: account.User(v.user), Progress: report.progress(),
	}, report.found)
	report.clear()
	if err != nil {
		return verifyProblem(err)
	}
	if err := list.keep(); err != nil {
		return err
	}
	if err := report.finish(summary); err != nil {
		return err
	}
	if summary.Damage > 0 {
		return ui.Failf(ui.ExitDataErr, "restore the files named above from a backup; the rest of the mail is not affected",
			"the store %s is damaged (findings: %d)", c.Store, summary.Damage)
	}
	return nil
}

func verifyProblem(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return ui.Failf(ui.ExitTempFail, "start again to check the rest", "the check was interrupted")
	case errors.Is(err, check.ErrScope):
		return ui.Fail(ui.ExitUsage, "add --user with the user of the manifest", err)
	case errors.Is(err, check.ErrForeign):
		return ui.Fail(ui.ExitConfig, "restore the site secret that this store was made with", err)
	case errors.Is(err, check.ErrNotFound):
		return ui.Fail(ui.ExitNoInput, "", err)
	case errors.Is(err, check.ErrOutside):
		return ui.Fail(ui.ExitUsage, "name a path in the view or in the store", err)
	default:
		return ui.Fail(ui.ExitIOErr, "", err)
	}
}
