package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
)

func newForget(a *app) *cobra.Command {
	var confirm string
	var asJSON bool
	c := &cobra.Command{
		Use:   "forget USER",
		Short: "Destroy a user's keys: the mail is unreadable for ever",
		Long: `Locks the user, and destroys every slot and every key. Nobody can read the stored mail again, with any
password, recovery code or recovery key; the files can be removed at leisure. Copies of the store that
were made before, such as backups, still hold the key record: whoever has one of these and a secret
that opens it can read the mail in that copy.

A Cyrus mailbox that was this user's and was renamed to another user's keeps its old messages under the
keys of this user until both have logged in once: have them do so before, or these messages are lost too.

The name of the user has to be typed once more. A record of what was destroyed is printed, and kept in
the store and in the audit log.`,
		Example: `  mailcryptfs forget alice@example.org
  mailcryptfs forget alice@example.org --confirm alice@example.org --json`,
		Annotations: exits("64  wrong arguments, or another name was typed", "67  the user is not enrolled", "74  a key record could not be destroyed",
			"77  not root", "78  the configuration cannot work"),
		Args:              oneUser,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	s := newSiteFlags(c)
	c.Flags().StringVar(&confirm, "confirm", "", "the `name` of the user again, instead of asking for it")
	c.Flags().BoolVar(&asJSON, "json", false, "print the record as a JSON object")
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.withHolder(c, s, func(h *holder) error { return a.forget(c.Context(), h, args[0], confirm, asJSON) })
	}
	return c
}

func (a *app) forget(ctx context.Context, h *holder, user, confirm string, asJSON bool) error {
	if _, err := h.enrolled(ctx, user); err != nil {
		return err
	}
	if confirm == "" {
		var err error
		confirm, err = ui.Ask("The mail of " + ui.Safe(user) + " will be unreadable for ever. Type the name of the user to go on")
		if err != nil {
			return err
		}
	}
	if confirm != user {
		return ui.Failf(ui.ExitUsage, "type the name exactly as in the command", "another name was typed; nothing was destroyed")
	}
	f, err := h.Forget(control.OwnPeer(ctx), user)
	if err != nil {
		return explain(user, err)
	}
	if asJSON {
		return ui.JSON(a.out, f)
	}
	return a.printf(`Record of destruction
  user            %s
  time            %s
  by              %s
  destroyed       %d slots, %d content keys, %d delivery keys
The mail of this user in this store cannot be read again.
`, ui.Safe(f.User), f.Time.Local().Format("2006-01-02 15:04:05 -0700"), ui.Safe(f.By), f.Slots, f.ContentKeys, f.DeliveryKeys)
}
