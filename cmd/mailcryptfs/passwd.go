package main

import (
	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

func newPasswd(a *app) *cobra.Command {
	old, fresh := &ui.PasswordSource{}, &ui.PasswordSource{}
	c := &cobra.Command{
		Use:   "passwd USER",
		Short: "Change the password that opens a user's mail",
		Long: `Makes the key slot that opens with the old password open with a new one. No message is touched,
sessions go on, and other slots stay as they are. Use it when the login password was changed without
the PAM module, or by somebody who did not know the old one. It does not change the login password.`,
		Example: `  mailcryptfs passwd alice@example.org
  mailcryptfs passwd alice@example.org --old-fd 3 --new-fd 4 3<old 4<new`,
		Annotations: exits("64  wrong arguments, or the two new passwords differ", "67  the user is not enrolled", "69  no daemon answers",
			"71  no memory could be locked for keys", "74  the daemon could not write the key record", "75  the daemon is busy",
			"77  wrong old password, or not root", "78  the configuration cannot work"),
		Args:              oneUser,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(c *cobra.Command, args []string) error { return a.passwd(c, args[0], old, fresh) },
	}
	c.Flags().IntVar(&old.FD, "old-fd", -1, "read the old password from the open descriptor `N`")
	c.Flags().IntVar(&fresh.FD, "new-fd", -1, "read the new password from the open descriptor `N`")
	return c
}

func (a *app) passwd(c *cobra.Command, user string, from, to *ui.PasswordSource) error {
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
	old, err := readPassword(from, "Old password of "+ui.Safe(user), false)
	if err != nil {
		return err
	}
	defer secret.Wipe(old)
	fresh, err := readPassword(to, "New password of "+ui.Safe(user), true)
	if err != nil {
		return err
	}
	if err := client.Passwd(c.Context(), user, old, fresh); err != nil {
		return explain(user, err)
	}
	return a.printf("the password of %s was changed\n", ui.Safe(user))
}
