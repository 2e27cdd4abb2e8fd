package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
)

func newLock(a *app) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "lock USER | --all",
		Short: "Stop everybody, the mail server included, from reading a user's mail",
		Long: `Locks a user: the keys are wiped from memory, and messages cannot be opened until the user is
unlocked. Mail goes on being delivered. Messages that a program has open already stay readable for
that program until it closes them. Locking a locked user is no error: it wipes the key under which
mail was delivered lately, which would otherwise be kept to the end of its epoch.`,
		Example: `  mailcryptfs lock alice@example.org
  mailcryptfs lock --all`,
		Annotations: exits("64  wrong arguments", "67  the user is not enrolled", "69  no daemon answers",
			"74  an entry of the keyring could not be removed", "77  not root", "78  the configuration cannot work"),
		Args: func(c *cobra.Command, args []string) error {
			if all {
				return noArgs(c, args)
			}
			return oneUser(c, args)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, args []string) error {
			if all {
				return a.lockAll(c)
			}
			return a.lock(c, args[0])
		},
	}
	c.Flags().BoolVar(&all, "all", false, "lock every unlocked user")
	return c
}

func (a *app) lock(c *cobra.Command, user string) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	return a.lockOne(c, client, user)
}

func (a *app) lockOne(c *cobra.Command, client *control.Client, user string) error {
	changed, err := client.Lock(c.Context(), user)
	switch {
	case err != nil:
		return explain(user, err)
	case changed:
		return a.printf("%s is locked\n", ui.Safe(user))
	default:
		return a.printf("%s was locked already\n", ui.Safe(user))
	}
}

// lockAll goes on after a failure, so that one bad entry keeps nobody else unlocked.
func (a *app) lockAll(c *cobra.Command) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	users, err := client.Who(c.Context())
	if err != nil {
		return explain("", err)
	}
	if len(users) == 0 {
		return a.printf("nobody is unlocked\n")
	}
	var errs []error
	for _, u := range users {
		errs = append(errs, a.lockOne(c, client, u.User))
	}
	return errors.Join(errs...)
}
