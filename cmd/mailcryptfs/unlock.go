package main

import (
	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
)

// errEnrolled is what the daemon says too when a user is enrolled a second time.
var errEnrolled = &control.Error{Code: control.CodeEnrolled, Message: "the user is enrolled already"}

func newUnlock(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "unlock USER",
		Short: "Let the mail server read a user's mail",
		Long: `Unlocks a user with a password: the mail server can read the user's messages until the user is
locked again or the machine restarts. A restart of the daemon alone locks nobody. Where the daemon
knows of sessions (anvil, cyrus_proc or idle in mailcryptfs.toml(5)) it locks a user who has none.`,
		Example: `  mailcryptfs unlock alice@example.org
  mailcryptfs unlock alice@example.org --password-file /root/alice.password`,
		Annotations: exits("64  wrong arguments", "67  the user is not enrolled", "69  no daemon answers",
			"71  no memory could be locked for keys", "75  the daemon is busy", "77  wrong password, or not root",
			"78  the configuration cannot work"),
		Args:              oneUser,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	source := passwordFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error { return a.unlock(c, args[0], source) }
	return c
}

func (a *app) unlock(c *cobra.Command, user string, source *ui.PasswordSource) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	status, err := client.Status(c.Context(), user)
	if err != nil {
		return explain(user, err)
	}
	if !status.Enrolled {
		return explain(user, &control.Error{Code: control.CodeNotEnrolled})
	}
	password, err := readPassword(source, "Password of "+ui.Safe(user), false)
	if err != nil {
		return err
	}
	if err := client.Unlock(c.Context(), user, password); err != nil {
		return explain(user, err)
	}
	return a.printf("%s is unlocked\n", ui.Safe(user))
}
