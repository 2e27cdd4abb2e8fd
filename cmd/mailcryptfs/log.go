package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
)

func newLogVerb(a *app) *cobra.Command {
	l := &logVerb{app: a}
	c := &cobra.Command{
		Use:   "log [USER]",
		Short: "Show what happened to a user's keys",
		Long: `Shows the audit log of the store: enrolments, unlocks and locks, changes of key slots and passwords,
recoveries, exports, rotations and destroyed keys, with time, cause, who did it and from where. With
USER, the events of that user only. It works with and without a running daemon; where several hosts
share the store, it shows the events of all.

The lines of the log form a chain; one that does not authenticate is left out, and reported at the
end. mailcryptfs verify checks the whole chain, and tells what was removed.`,
		Example: `  mailcryptfs log alice@example.org
  mailcryptfs log --since 7d
  mailcryptfs log alice@example.org --since 2026-01-31 --json | jq -r .what`,
		Annotations: exits("64  wrong arguments", "65  lines of the log do not authenticate", "74  the log cannot be read",
			"77  not root", "78  the configuration or the site secret cannot work"),
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return oneUser(c, args)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(_ *cobra.Command, args []string) error { return l.run(args) },
	}
	c.Flags().BoolVar(&l.asJSON, "json", false, "print a JSON object for each event, one a line")
	c.Flags().StringVar(&l.since, "since", "", "leave out what is older than this `time`: 90m, 24h, 7d, 2026-01-31, or 2026-01-31T12:00:00Z")
	return c
}

// logVerb is one run of the verb.
type logVerb struct {
	*app
	asJSON bool
	since  string
}

func (l *logVerb) run(args []string) error {
	since, err := parseSince(l.since, time.Now())
	if err != nil {
		return ui.Fail(ui.ExitUsage, "mailcryptfs log --help", err)
	}
	c, keys, err := l.openSite("read the audit log")
	if err != nil {
		return err
	}
	defer keys.Wipe()
	var user account.User
	if len(args) > 0 {
		user = account.User(args[0])
	}
	err = audit.Read(c.Store, keys, user, func(e audit.Event) error {
		if e.Time.Before(since) {
			return nil
		}
		return l.show(e)
	})
	var problem *ui.Problem
	switch {
	case err == nil, errors.As(err, &problem):
		return err
	case errors.Is(err, audit.ErrDamaged):
		return ui.Fail(ui.ExitDataErr, "mailcryptfs verify", err)
	default:
		return ui.Fail(ui.ExitIOErr, "mailcryptfs verify", err)
	}
}

func (l *logVerb) show(e audit.Event) error {
	if l.asJSON {
		b, err := json.Marshal(e)
		if err != nil {
			return err
		}
		return l.printf("%s\n", b)
	}
	return l.printf("%s\n", eventLine(e))
}

// eventLine is an event for people: the fields that every event has, then those that this one has.
func eventLine(e audit.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %-16s %s", e.Time.Local().Format(time.DateTime), ui.Safe(e.What), ui.Safe(string(e.User)))
	for _, f := range []struct{ name, value string }{
		{"by", e.By}, {"cause", e.Cause}, {"peer", e.Peer}, {"host", e.Host},
	} {
		if f.value != "" {
			fmt.Fprintf(&b, "  %s=%s", f.name, ui.Quote(f.value))
		}
	}
	if e.Detail != "" {
		b.WriteString("  " + ui.Safe(e.Detail))
	}
	return b.String()
}

// sinceLayouts are the absolute times that --since takes; those without a zone are local.
var sinceLayouts = []string{time.DateOnly, "2006-01-02T15:04", time.DateTime, time.RFC3339}

// parseSince reads a time of the past: how long ago it was, or when. The empty string is the zero time.
func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range sinceLayouts {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.AddDate(0, 0, -int(n)), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("--since %q is neither a time nor how long ago it was", s)
}
