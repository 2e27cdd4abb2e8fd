package main

import (
	"bytes"
	"context"

	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// enroll is one run of the verb.
type enroll struct {
	*app
	source *ui.PasswordSource
	code   bool
	sheet  string
}

func newEnroll(a *app) *cobra.Command {
	v := &enroll{app: a}
	c := &cobra.Command{
		Use:   "enroll USER",
		Short: "Give a user a key",
		Long: `Gives a user a key of their own, protected by the password that they log in with. From then on,
mail for the user is encrypted so that only this password opens it, and whatever else opens the key:
the recovery keys of the configuration, and with --recovery-code a code that is printed once, on a
sheet for the user. If there is none of these, a lost password loses the mail.`,
		Example: `  mailcryptfs enroll alice@example.org
  mailcryptfs enroll alice@example.org --recovery-code --sheet alice.html
  mailcryptfs enroll alice@example.org --password-fd 3 3</run/secrets/alice`,
		Annotations: exits("64  wrong arguments, or the two passwords differ", "69  no daemon answers",
			"73  the user is enrolled already, or the file of the sheet is there", "74  the daemon could not write the key record",
			"75  the daemon is busy", "77  not root", "78  the configuration cannot work, or demands recovery keys and names none"),
		Args:              oneUser,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	v.source = passwordFlags(c)
	c.Flags().BoolVar(&v.code, "recovery-code", false, "make a recovery code, too")
	c.Flags().StringVar(&v.sheet, "sheet", "", "write the recovery code to this new `file` (.html, .svg or .txt) instead of printing it")
	c.RunE = func(c *cobra.Command, args []string) error { return v.run(c.Context(), args[0]) }
	return c
}

func (v *enroll) run(ctx context.Context, user string) error {
	if v.sheet != "" {
		if !v.code {
			return ui.Failf(ui.ExitUsage, "add --recovery-code", "--sheet is for recovery codes")
		}
		if err := checkSheet(v.sheet); err != nil {
			return err
		}
	}
	client, err := v.client()
	if err != nil {
		return err
	}
	// Ask the daemon first: nobody types a new password twice to learn that it was in vain.
	status, err := client.Status(ctx, user)
	if err != nil {
		return explain(user, err)
	}
	if status.Enrolled {
		return explain(user, errEnrolled)
	}
	password, err := readPassword(v.source, "Password of "+ui.Safe(user), true)
	if err != nil {
		return err
	}
	again := bytes.Clone(password)
	defer secret.Wipe(again)
	if err := client.Enroll(ctx, user, password); err != nil {
		return explain(user, err)
	}
	if err := v.printf("%s is enrolled\n", ui.Safe(user)); err != nil {
		return err
	}
	if v.code {
		return v.addCode(ctx, client, user, again)
	}
	v.warnNoWay(ctx, client, user)
	return nil
}

// addCode makes the recovery code; the user is enrolled whatever comes of it.
func (v *enroll) addCode(ctx context.Context, client *control.Client, user string, password []byte) error {
	add := &slotAdd{app: v.app, code: true, sheet: v.sheet}
	if err := add.check(); err != nil {
		return err
	}
	added, err := client.AddSlot(ctx, user, control.Proof{Password: password}, control.NewSlot{Label: add.label})
	if err != nil {
		return explain(user, err)
	}
	defer secret.Wipe(added.Code)
	return add.show(user, added)
}

// warnNoWay says when the password is all that opens the mail.
func (v *enroll) warnNoWay(ctx context.Context, client *control.Client, user string) {
	status, err := client.Status(ctx, user)
	if err == nil && status.Recovery != nil && status.Recovery.NoWay {
		v.warn("only the password opens the mail of %s; for a way back: mailcryptfs slot add --recovery-code %s", ui.Safe(user), ui.Quote(user))
	}
}
