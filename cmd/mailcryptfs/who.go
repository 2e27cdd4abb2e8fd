package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
)

func newWho(a *app) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "who",
		Short: "List the unlocked users",
		Long:  `Lists every user whose mail can be read now, since when, and why the user is not locked.`,
		Example: `  mailcryptfs who
  mailcryptfs who --json | jq -r '.[].user'`,
		Annotations:       exits("64  wrong arguments", "69  no daemon answers", "77  not root", "78  the configuration cannot work"),
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(c *cobra.Command, _ []string) error { return a.who(c, asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	return c
}

func (a *app) who(c *cobra.Command, asJSON bool) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	users, err := client.Who(c.Context())
	if err != nil {
		return explain("", err)
	}
	if asJSON {
		if users == nil {
			users = []control.UserStatus{} // an empty list, not null
		}
		return ui.JSON(a.out, users)
	}
	rows := make([][]string, len(users))
	for i, u := range users {
		rows[i] = []string{u.User, since(u.Since), u.Because}
	}
	return ui.Table(a.out, []string{"USER", "UNLOCKED SINCE", "BECAUSE"}, rows)
}

func since(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}
