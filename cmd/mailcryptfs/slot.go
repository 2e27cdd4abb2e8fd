package main

import (
	"context"
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

var slotExits = []string{"64  wrong arguments", "67  the user is not enrolled, or is locked and no secret was given",
	"73  there are as many slots as there can be, or a file is in the way", "74  the key record could not be written", "75  the daemon is busy",
	"77  wrong secret, the last slot, or not root", "78  the configuration cannot work"}

func newSlot(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "slot",
		Short: "List, add and revoke what opens a user's key",
		Long: `Each slot opens the key of a user with one secret: the login password, further passwords of devices and
programs, a recovery code that the user keeps on paper, and recovery keys of the site. Changing slots
touches no message and ends no session.`,
		Example: `  mailcryptfs slot list alice@example.org
  mailcryptfs slot add --recovery-code alice@example.org`,
		Annotations: exits(slotExits...),
		Args:        unknownPart,
		RunE:        unknownPart,
	}
	c.AddCommand(newSlotList(a), newSlotAdd(a), newSlotRevoke(a))
	return c
}

// unknownPart refuses a verb that needs another word after it.
func unknownPart(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return ui.Failf(ui.ExitUsage, c.CommandPath()+" --help", "%s needs to know what to do", c.Name())
	}
	return ui.Failf(ui.ExitUsage, c.CommandPath()+" --help", "%s cannot do %q", c.Name(), args[0])
}

func newSlotList(a *app) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "list USER",
		Short: "List the slots of a user",
		Long: `Lists what opens the key of a user: each slot with its label, who made it and when, and on which day
it was used last.`,
		Example:           `  mailcryptfs slot list alice@example.org --json`,
		Annotations:       exits(slotExits...),
		Args:              oneUser,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	s := newSiteFlags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.withHolder(c, s, func(h *holder) error { return a.listSlots(c.Context(), h, args[0], asJSON) })
	}
	return c
}

func (a *app) listSlots(ctx context.Context, h *holder, user string, asJSON bool) error {
	slots, err := h.Slots(ctx, user)
	if err != nil {
		return explain(user, err)
	}
	if asJSON {
		return ui.JSON(a.out, append([]control.Slot{}, slots...))
	}
	rows := make([][]string, len(slots))
	for i, s := range slots {
		label := s.Label
		if s.Recipient != "" {
			label = shorten(s.Recipient)
		}
		used := "-"
		if s.Used != nil {
			used = s.Used.Local().Format("2006-01-02")
		}
		rows[i] = []string{s.ID, s.Kind, label, since(&s.Created), s.By, used}
	}
	return ui.Table(a.out, []string{"SLOT", "KIND", "LABEL", "MADE", "BY", "LAST USED"}, rows)
}

// shorten keeps beginning and end of a recipient, which may have 2000 characters.
func shorten(s string) string {
	if len(s) <= 40 {
		return s
	}
	return s[:16] + "..." + s[len(s)-8:]
}

// slotAdd is one run of the verb.
type slotAdd struct {
	*app
	proof  *proofFlags
	fresh  *ui.PasswordSource
	site   *siteFlags
	code   bool
	label  string
	sheet  string
	asJSON bool
}

func newSlotAdd(a *app) *cobra.Command {
	v := &slotAdd{app: a}
	c := &cobra.Command{
		Use:   "add USER",
		Short: "Add a password or a recovery code",
		Long: `Adds a slot: a further password, for example of one device, or with --recovery-code a recovery code. The
code is printed once, on a sheet that says in plain words what it is for, and is stored nowhere: give
it to the user on paper, never by mail.

A secret that opens the key now is needed: a password, which is asked for, a recovery code or a
recovery key. A user who is unlocked in the daemon needs none.`,
		Example: `  mailcryptfs slot add alice@example.org --label phone
  mailcryptfs slot add --recovery-code alice@example.org --sheet alice.html`,
		Annotations:       exits(slotExits...),
		Args:              oneUser,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	v.proof = newProofFlags(c, "password", "a password that opens the key", "with-code")
	v.fresh, v.site = secretFlags(c, "new", "the new password"), newSiteFlags(c)
	f := c.Flags()
	f.BoolVar(&v.code, "recovery-code", false, "add a recovery code instead of a password")
	f.StringVar(&v.label, "label", "", "`text` that tells the slot from others")
	f.StringVar(&v.sheet, "sheet", "", "write the recovery code to this new `file` (.html, .svg or .txt) instead of printing it")
	f.BoolVar(&v.asJSON, "json", false, "print a JSON object")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := v.check(); err != nil {
			return err
		}
		return a.withHolder(c, v.site, func(h *holder) error { return v.run(c.Context(), h, args[0]) })
	}
	return c
}

func (v *slotAdd) run(ctx context.Context, h *holder, user string) error {
	unlocked, err := h.enrolled(ctx, user)
	if err != nil {
		return err
	}
	var proof control.Proof
	if !unlocked || v.proof.given() {
		if proof, err = v.proof.read(v.app, user, "A password that opens the mail of "+ui.Safe(user)); err != nil {
			return err
		}
	}
	r := control.NewSlot{Label: v.label}
	if !v.code {
		if r.Password, err = readPassword(v.fresh, "New further password of "+ui.Safe(user), true); err != nil {
			proof.Wipe()
			return err
		}
	}
	added, err := h.AddSlot(control.OwnPeer(ctx), user, proof, r)
	if err != nil {
		return explain(user, err)
	}
	defer secret.Wipe(added.Code)
	return v.show(user, added)
}

// check judges the flags, and gives the slot a label.
func (v *slotAdd) check() error {
	switch {
	case v.sheet != "" && !v.code:
		return ui.Failf(ui.ExitUsage, "add --recovery-code", "--sheet is for recovery codes")
	case v.code && v.fresh.Given():
		return ui.Failf(ui.ExitUsage, "leave one of them out", "a recovery code is made, not chosen")
	case v.sheet != "":
		if err := checkSheet(v.sheet); err != nil {
			return err
		}
	}
	if v.label == "" && v.code {
		v.label = "recovery code"
	} else if v.label == "" {
		v.label = "further password"
	}
	return nil
}

func (v *slotAdd) show(user string, added control.AddedSlot) error {
	switch {
	case v.asJSON && v.sheet == "":
		return v.showJSON(user, added)
	case len(added.Code) == 0:
		return v.printf("%s has the slot %s (%s) now\n", ui.Safe(user), added.ID, ui.Safe(v.label))
	}
	err := v.showSheet(codeSheet(user, added.Code), v.sheet)
	if err != nil {
		return ui.Failf(ui.ExitCode(err), "mailcryptfs slot revoke "+ui.Quote(user)+" "+added.ID,
			"the recovery code %s of %s was made, but could not be shown: %w", added.ID, ui.Safe(user), err)
	}
	return nil
}

func (v *slotAdd) showJSON(user string, added control.AddedSlot) error {
	answer := struct {
		User string          `json:"user"`
		ID   string          `json:"id"`
		Code json.RawMessage `json:"code,omitempty"`
	}{User: user, ID: added.ID}
	if len(added.Code) > 0 {
		answer.Code = codeText(added.Code)
		defer secret.Wipe(answer.Code)
	}
	return ui.JSON(v.out, answer)
}

func newSlotRevoke(a *app) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "revoke USER SLOT",
		Short: "Take a slot away",
		Long: `Takes a slot away: its secret opens nothing from then on. A session that it opened goes on; lock the
user to end it. The last slot that can be used goes only with --force: once the user is locked, nobody
can read the mail again.

Somebody who had the secret and a copy of the store could have opened the key before. If that is to be
feared, rotate the identity afterwards: mailcryptfs rotate USER --identity.`,
		Example:     `  mailcryptfs slot revoke alice@example.org 3ec335f2579de3b3`,
		Annotations: exits(append(slotExits, "66  the user has no such slot")...),
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 2 {
				return ui.Failf(ui.ExitUsage, c.CommandPath()+" --help", "revoke takes two arguments, a user name and a slot")
			}
			return checkUser(args[0])
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	s := newSiteFlags(c)
	c.Flags().BoolVar(&force, "force", false, "also the last slot that opens the user's mail")
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.withHolder(c, s, func(h *holder) error {
			if err := h.RevokeSlot(control.OwnPeer(c.Context()), args[0], args[1], force); err != nil {
				return explain(args[0], err)
			}
			return a.printf("the slot %s of %s opens nothing any more\n", args[1], ui.Safe(args[0]))
		})
	}
	return c
}
