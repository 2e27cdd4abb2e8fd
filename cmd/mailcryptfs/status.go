package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
)

func newStatus(a *app) *cobra.Command {
	var asJSON, recovery bool
	var user string
	c := &cobra.Command{
		Use:   "status",
		Short: "Show the state of the daemon or of one user",
		Long: `Shows what the daemon serves and how many users are unlocked, and counts users whom a recovery key does
not reach yet, and those who have no way back if they lose their passwords. --recovery names them.

With --user, shows the state of one user, and what happened to the user's key: new and revoked slots,
changed and reset passwords, recoveries, exports, rotations.`,
		Example: `  mailcryptfs status
  mailcryptfs status --recovery
  mailcryptfs status --user alice@example.org --json`,
		Annotations: exits("64  wrong arguments", "67  the user is not enrolled", "69  no daemon answers", "77  not root",
			"78  the configuration cannot work"),
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			if c.Flags().Changed("user") && recovery {
				return ui.Failf(ui.ExitUsage, "leave --recovery out: --user shows it, too", "--user and --recovery exclude each other")
			}
			if c.Flags().Changed("user") {
				return a.userStatus(c, user, asJSON)
			}
			if recovery {
				return a.recoveryStatus(c, asJSON)
			}
			return a.daemonStatus(c, asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	c.Flags().StringVar(&user, "user", "", "show this `user`")
	c.Flags().BoolVar(&recovery, "recovery", false, "show for every user what opens the mail if the passwords are lost")
	return c
}

func (a *app) daemonStatus(c *cobra.Command, asJSON bool) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	d, err := client.Daemon(c.Context())
	if err != nil {
		return explain("", err)
	}
	if asJSON {
		return ui.JSON(a.out, d)
	}
	rows := [][]string{
		{"process", strconv.Itoa(d.PID)},
		{"since", since(&d.Started)},
		{"store", d.Store},
		{"view", d.View},
		{"profile", d.Profile},
		{"delivery", d.Delivery},
		{"enrolled", strconv.Itoa(d.Users)},
		{"unlocked", strconv.Itoa(d.Unlocked)},
	}
	rows = append(rows, recoveryRows(d.Recovery)...)
	for _, p := range d.Problems {
		rows = append(rows, []string{"problem", p})
	}
	if d.Problem != "" {
		rows = append(rows, []string{"problem", d.Problem})
	}
	return ui.Table(a.out, []string{"DAEMON", "mailcryptfs " + d.Version}, rows)
}

// userStatus prints the state of a user; for one who is not enrolled it also fails, so that scripts need not parse.
func (a *app) userStatus(c *cobra.Command, user string, asJSON bool) error {
	if err := checkUser(user); err != nil {
		return err
	}
	client, err := a.client()
	if err != nil {
		return err
	}
	u, err := client.Status(c.Context(), user)
	if err != nil {
		return explain(user, err)
	}
	var events []control.Event
	if u.Enrolled {
		if events, err = client.Events(c.Context(), user); err != nil {
			return explain(user, err)
		}
	}
	if asJSON {
		err = ui.JSON(a.out, struct {
			control.UserStatus
			Events []control.Event `json:"events"`
		}{u, append([]control.Event{}, events...)})
	} else {
		err = ui.Table(a.out, []string{"USER", u.User}, append(userRows(u), eventRows(events)...))
	}
	if err == nil && !u.Enrolled {
		err = explain(user, &control.Error{Code: control.CodeNotEnrolled})
	}
	return err
}

func userRows(u control.UserStatus) [][]string {
	var rows [][]string
	switch {
	case !u.Enrolled:
		rows = append(rows, []string{"state", "not enrolled"})
	case u.Unlocked:
		rows = append(rows, []string{"state", "unlocked"}, []string{"since", since(u.Since)}, []string{"by", u.By})
	default:
		rows = append(rows, []string{"state", "locked"})
	}
	if u.Because != "" {
		rows = append(rows, []string{"because", u.Because})
	}
	if u.LockAt != nil {
		rows = append(rows, []string{"locked at", since(u.LockAt) + " unless in use"})
	}
	if u.Plain {
		rows = append(rows, []string{"tree", "kept plain, until: mailcryptfs encrypt " + ui.Quote(u.User)})
	}
	rows = append(rows, wayBackRows(u.Recovery)...)
	rows = append(rows, conversionRows(u.Conversion)...)
	if u.Until != nil {
		rows = append(rows, []string{"delivery key", "in memory until " + since(u.Until)})
	}
	if u.Problem != "" {
		rows = append(rows, []string{"problem", u.Problem})
	}
	return rows
}

func conversionRows(c *control.Conversion) [][]string {
	if c == nil {
		return nil
	}
	rows := [][]string{{string(c.Goal), fmt.Sprintf("%s: %d entries (%d bytes) left, %d (%d bytes) done%s", c.State, c.Left, c.BytesLeft, c.Done, c.Bytes, rest(*c))}}
	if c.State == control.StateConverting && c.Rate > 0 {
		rows = append(rows, []string{"rate", fmt.Sprintf("%.0f entries/s, %.1f MB/s, about %s left", c.Rate, c.ByteRate/1e6,
			(time.Duration(c.Remaining) * time.Second).String())})
	}
	if c.Problem != "" {
		rows = append(rows, []string{"not complete", c.Problem})
	}
	return rows
}
