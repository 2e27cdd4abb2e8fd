package main

import (
	"bytes"
	"context"
	"crypto/subtle"
	"fmt"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// drill is one run of the verb.
type drill struct {
	*app
	*elsewhere
	key    string
	asJSON bool
}

// drilled is what the drill found of one user. Field names in JSON are stable.
type drilled struct {
	User  string `json:"user"`
	Opens bool   `json:"opens"`       // a recovery key that was given opens the mail
	NoWay bool   `json:"no_way_back"` // nothing but passwords does
	Codes int    `json:"codes"`
	Why   string `json:"why,omitempty"` // it does not open
}

// drillReport is the answer of recovery drill --json.
type drillReport struct {
	Users      []drilled `json:"users"`
	SiteSecret string    `json:"site_secret"` // "opens", or why its escrow does not
	Failed     int       `json:"failed"`      // users whom the recovery key does not open
	NoWay      int       `json:"no_way_back"`
}

func newDrill(a *app) *cobra.Command {
	v := &drill{app: a}
	c := &cobra.Command{
		Use:   "drill [USER...]",
		Short: "Prove that a recovery key opens every user's key",
		Long: `Opens, for every user or those named, the slot of a recovery key, compares what it finds with the user's
key record, and opens a content key with it; no mail is opened, and nothing is changed. The copy of the
site secret in the store is opened, too. Users whom the key does not open, and users who have no way
back if they lose their passwords, are listed.

It works with the daemon running or not, and on a copy of the store on the machine where the recovery
key is kept, which is the better place for it.`,
		Example: `  mailcryptfs recovery drill --recovery-key /media/stick/recovery.key
  mailcryptfs recovery drill --recovery-key recovery.key --store /mnt/copy/store --json`,
		Annotations:       exits(recoveryExits...),
		ValidArgsFunction: cobra.NoFileCompletions,
		Args: func(_ *cobra.Command, args []string) error {
			for _, u := range args {
				if err := checkUser(u); err != nil {
					return err
				}
			}
			return nil
		},
	}
	v.elsewhere = newElsewhere(c)
	c.Flags().StringVar(&v.key, "recovery-key", "", "the recovery key in this `file`; - for standard input")
	c.Flags().BoolVar(&v.asJSON, "json", false, "print a JSON object")
	c.RunE = func(c *cobra.Command, args []string) error { return v.run(c.Context(), args) }
	return c
}

func (v *drill) run(ctx context.Context, users []string) error {
	if v.key == "" {
		return ui.Failf(ui.ExitUsage, "mailcryptfs status --recovery shows what needs no key", "give --recovery-key FILE")
	}
	conf, err := v.settings(v.app)
	if err != nil {
		return err
	}
	key, err := v.readKey(v.key)
	if err != nil {
		return err
	}
	defer secret.Wipe(key)
	ids, err := identities(key)
	if err != nil {
		return err
	}
	b, err := v.secret(ctx, v.app, conf, key)
	if err != nil {
		return err
	}
	report := drillReport{SiteSecret: drillEscrow(conf, b, ids)}
	o, err := v.openOffline(conf, b)
	if err != nil {
		return err
	}
	defer o.close()
	if err := report.users(ctx, o, users, ids); err != nil {
		return err
	}
	o.audit.Record(audit.Event{What: audit.Drill, By: byDrill, Peer: control.PeerOf(control.OwnPeer(ctx)),
		Detail: fmt.Sprintf("%d users, %d do not open", len(report.Users), report.Failed)})
	return v.show(report)
}

// drillEscrow opens the copy of the site secret in the store and compares it.
func drillEscrow(c config.Config, want []byte, ids []age.Identity) string {
	b, err := openEscrow(c.Store, ids)
	if err != nil {
		return err.Error()
	}
	defer secret.Wipe(b)
	if subtle.ConstantTimeCompare(b, want) != 1 {
		return "the copy in the store is of another site secret"
	}
	return "opens"
}

// users looks at those named, or at all.
func (r *drillReport) users(ctx context.Context, o *keysAtRest, named []string, ids []age.Identity) error {
	r.Users = []drilled{}
	if len(named) == 0 {
		all, err := o.ring.Users()
		if err != nil && len(all) == 0 {
			return ui.Fail(ui.ExitDataErr, "mailcryptfs verify", err)
		}
		for _, u := range all {
			named = append(named, string(u))
		}
	}
	for _, name := range named {
		if err := ctx.Err(); err != nil {
			return err
		}
		u := account.User(name)
		s := o.survey(u)
		d := drilled{User: name, NoWay: s.NoWay && s.Problem == "", Codes: s.Codes}
		if err := o.ring.Drill(u, ids); err != nil {
			d.Why = err.Error()
			r.Failed++
		} else {
			d.Opens = true
		}
		if d.NoWay {
			r.NoWay++
		}
		r.Users = append(r.Users, d)
	}
	return nil
}

func (v *drill) show(r drillReport) error {
	if v.asJSON {
		if err := ui.JSON(v.out, r); err != nil {
			return err
		}
	} else if err := v.table(r); err != nil {
		return err
	}
	if r.Failed > 0 || r.NoWay > 0 || r.SiteSecret != "opens" {
		return ui.Failf(ui.ExitDataErr, "users get slots for recovery keys at their next unlock; mailcryptfs slot add --recovery-code USER makes a code",
			"%d of %d users are not opened by the recovery key, %d have no way back; site secret: %s", r.Failed, len(r.Users), r.NoWay, r.SiteSecret)
	}
	return nil
}

func (v *drill) table(r drillReport) error {
	var rows [][]string
	for _, d := range r.Users {
		switch {
		case d.NoWay:
			rows = append(rows, []string{d.User, "NO WAY BACK", d.Why})
		case !d.Opens:
			rows = append(rows, []string{d.User, "does not open", d.Why})
		}
	}
	rows = append(rows, []string{"(site secret)", r.SiteSecret, ""})
	opened := len(r.Users) - r.Failed
	var b bytes.Buffer
	if err := ui.Table(&b, []string{"USER", fmt.Sprintf("%d OF %d OPEN", opened, len(r.Users)), ""}, rows); err != nil {
		return err
	}
	return v.printf("%s", b.String())
}
