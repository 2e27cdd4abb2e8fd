package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
)

// recoveryRows counts users by what opens their mail if the passwords are lost.
func recoveryRows(r control.RecoveryStatus) [][]string {
	rows := [][]string{{"recovery", fmt.Sprintf("%s, %d recovery keys", r.Policy, r.Recipients)}}
	for _, c := range []struct {
		n    int
		text string
	}{
		{r.Missing, "users miss a recovery key until their next unlock"},
		{r.NoWay, "users have no way back if they lose their passwords: mailcryptfs status --recovery"},
		{r.Rotating, "users get new keys"},
		{r.Problems, "users have a key record that cannot be judged: mailcryptfs verify"},
	} {
		if c.n > 0 {
			rows = append(rows, []string{"", fmt.Sprintf("%d %s", c.n, c.text)})
		}
	}
	if r.Problem != "" {
		rows = append(rows, []string{"problem", r.Problem})
	}
	return rows
}

// wayBackRows says the same of one user.
func wayBackRows(s *control.Survey) [][]string {
	if s == nil {
		return nil
	}
	rows := [][]string{{"recovery", wayBack(s)}}
	if len(s.Missing) > 0 {
		rows = append(rows, []string{"", fmt.Sprintf("%d recovery keys do not open it yet: at the next unlock", len(s.Missing))})
	}
	if s.Rotation != nil {
		rows = append(rows, []string{"rotation", rotationText(s.Rotation)})
	}
	return rows
}

// wayBack says in a few words what opens the mail if the passwords are lost.
func wayBack(s *control.Survey) string {
	if s.Problem != "" {
		return s.Problem
	}
	var ways []string
	for _, w := range []struct {
		n    int
		text string
	}{{s.Codes, "recovery code"}, {s.Keys, "recovery keys"}, {s.Retired, "retired recovery keys"}} {
		if w.n > 0 {
			ways = append(ways, fmt.Sprintf("%s (%d)", w.text, w.n))
		}
	}
	if s.NoWay {
		return "none: a lost password loses the mail"
	}
	return strings.Join(ways, ", ")
}

func eventRows(events []control.Event) [][]string {
	var rows [][]string
	for i, e := range events {
		heading := ""
		if i == 0 {
			heading = "events"
		}
		text := since(&e.Time) + "  " + e.What
		for _, part := range []struct{ word, value string }{{"by ", e.By}, {"with ", e.Cause}, {"from ", e.Peer}, {"", e.Detail}} {
			if part.value != "" {
				text += ", " + part.word + part.value
			}
		}
		rows = append(rows, []string{heading, text})
	}
	return rows
}

// recoveryStatus lists every enrolled user.
func (a *app) recoveryStatus(c *cobra.Command, asJSON bool) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	all, err := client.Survey(c.Context())
	if err != nil {
		return explain("", err)
	}
	if asJSON {
		return ui.JSON(a.out, append([]control.Survey{}, all...))
	}
	rows := make([][]string, len(all))
	for i, s := range all {
		missing, rotation := "-", "-"
		if len(s.Missing) > 0 {
			missing = fmt.Sprintf("%d keys", len(s.Missing))
		}
		if s.Rotation != nil {
			rotation = rotationText(s.Rotation)
		}
		rows[i] = []string{s.User, wayBack(&s), missing, rotation}
	}
	return ui.Table(a.out, []string{"USER", "OPENS WITHOUT A PASSWORD", "MISSING", "ROTATION"}, rows)
}
