package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
)

var convertExits = []string{"64  wrong arguments", "67  the user is locked, and the key is needed", "69  no daemon answers",
	"74  entries could not be converted", "75  it was interrupted, or entries are in use", "77  not root", "78  the configuration cannot work"}

func newEncrypt(a *app) *cobra.Command {
	v := &conversion{app: a, goal: control.GoalEncrypt}
	c := &cobra.Command{
		Use:   "encrypt USER | --all",
		Short: "Encrypt what a user has stored in the clear",
		Long: `Has the daemon convert what is stored without the user's key: plain files and names, and messages
that are encrypted with the site secret. Mail can be read and delivered meanwhile; clients notice
nothing. The daemon does this by itself for every user who is unlocked; for one who is locked, or has
no key yet, names and the files of the mail server are converted, and messages as far as possible.

After decrypt this verb makes the daemon convert by itself again.`,
		Example: `  mailcryptfs encrypt alice@example.org --wait
  mailcryptfs encrypt --all --dry-run`,
	}
	return v.command(c)
}

func newDecrypt(a *app) *cobra.Command {
	v := &conversion{app: a, goal: control.GoalDecrypt}
	c := &cobra.Command{
		Use:   "decrypt USER | --all",
		Short: "Turn a user's mail back into plain files",
		Long: `Has the daemon turn everything that a user has stored into plain files with plain names. The user has to
be unlocked, unless he has no key. It can be interrupted and begun again. Mail can be read and
delivered meanwhile; what is delivered is stored as the configuration says: to end encryption for
everybody, set delivery and unenrolled to "plaintext" first.

The daemon leaves the tree alone from then on, until mailcryptfs encrypt. When the whole store is
plain, stop the daemon, and let the mail server use the store itself.`,
		Example: `  mailcryptfs decrypt alice@example.org --dry-run
  mailcryptfs decrypt --all --wait`,
	}
	return v.command(c)
}

// conversion is one run of encrypt or decrypt.
type conversion struct {
	*app
	goal              control.Goal
	all, wait, dryRun bool
}

func (v *conversion) command(c *cobra.Command) *cobra.Command {
	c.Annotations = exits(convertExits...)
	c.ValidArgsFunction = cobra.NoFileCompletions
	c.Args = func(c *cobra.Command, args []string) error {
		if v.all {
			return noArgs(c, args)
		}
		return oneUser(c, args)
	}
	c.RunE = v.run
	c.Flags().BoolVar(&v.all, "all", false, "every user who has a directory in the view")
	c.Flags().BoolVar(&v.wait, "wait", false, "wait until it is done, and show progress on a terminal")
	c.Flags().BoolVar(&v.dryRun, "dry-run", false, "count what would be converted, and change nothing")
	return c
}

func (v *conversion) run(c *cobra.Command, users []string) error {
	conf, err := v.config()
	if err != nil {
		return err
	}
	client := control.NewClient(conf.Control)
	if v.all {
		// Asked first: without a daemon the view is not there, and nobody would be found.
		if _, err := client.Daemon(c.Context()); err != nil {
			return explain("", err)
		}
		if users, err = usersOf(conf.View, conf.User); err != nil {
			return ui.Fail(ui.ExitIOErr, "", err)
		}
		if len(users) == 0 {
			return v.printf("nobody has mail in %s\n", conf.View)
		}
	}
	var errs []error
	for _, u := range users {
		errs = append(errs, v.one(c, client, u))
	}
	return errors.Join(errs...)
}

// one converts one user's tree. With --all others follow, whatever comes of it.
func (v *conversion) one(c *cobra.Command, client *control.Client, user string) error {
	r := control.ConvertRequest{Goal: v.goal, DryRun: v.dryRun, Wait: v.wait}
	bar := newBar(v.app, user, v.wait && !v.dryRun)
	p, err := client.Convert(c.Context(), user, r, bar.show)
	bar.end()
	if err != nil {
		return explain(user, err)
	}
	name := ui.Safe(user)
	switch {
	case v.dryRun:
		return v.printf("%s: %d of %d entries to %s, %d bytes%s\n", name, p.Left, p.Entries, v.goal, p.BytesLeft, rest(p))
	case !v.wait:
		return v.printf("%s: the daemon will %s the mail; see mailcryptfs status --user %s\n", name, v.goal, ui.Quote(user))
	case p.State == control.StateDone:
		return v.printf("%s: %d entries, %d bytes; nothing is left to %s%s\n", name, p.Done, p.Bytes, v.goal, rest(p))
	case p.Failed > 0:
		return ui.Failf(ui.ExitIOErr, "look for the names in the log: journalctl -u mailcryptfs; then: mailcryptfs verify",
			"%s: %d entries, %d bytes; %s", name, p.Done, p.Bytes, p.Problem)
	}
	return ui.Failf(ui.ExitTempFail, "mailcryptfs "+string(v.goal)+" "+ui.Quote(user)+" --wait",
		"%s: %d entries, %d bytes; %s", name, p.Done, p.Bytes, p.Problem)
}
