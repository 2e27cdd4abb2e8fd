package main

import (
	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
)

func newEnroll(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "enroll USER",
		Short: "Give a user a key",
		Long: `Gives a user a key of their own, protected by the password that they log in with. From then on,
mail for the user is encrypted so that only this password opens it. If the password is lost, so is
the mail.`,
		Example: `  mailcryptfs enroll alice@example.org
  mailcryptfs enroll alice@example.org --password-fd 3 3</run/secrets/alice`,
		Annotations: exits("64  wrong arguments, or the two passwords differ", "69  no daemon answers", "73  the user is enrolled already",
			"74  the daemon could not write the key record", "75  the daemon is busy", "77  not root", "78  the configuration cannot work"),
		Args:              oneUser,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	source := passwordFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error { return a.enroll(c, args[0], source) }
	return c
}

func (a *app) enroll(c *cobra.Command, user string, source *ui.PasswordSource) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	// Ask the daemon first: nobody types a new password twice to learn that it was in vain.
	status, err := client.Status(c.Context(), user)
	if err != nil {
		return explain(user, err)
	}
	if status.Enrolled {
		return explain(user, errEnrolled)
	}
	password, err := readPassword(source, "Password of "+ui.Safe(user), true)
	if err != nil {
		return err
	}
	if err := client.Enroll(c.Context(), user, password); err != nil {
		return explain(user, err)
	}
	return a.printf("%s is enrolled\n", ui.Safe(user))
}
