package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
)

var recoverExits = []string{"64  wrong arguments, or the two new passwords differ", "65  the file of a request, an answer or a recovery key is damaged",
	"66  a file that was named is not there", "67  the user is not enrolled", "73  a file is in the way; nothing was overwritten",
	"74  the key record could not be written", "75  the daemon is busy, or a request has expired",
	"77  the recovery key or the code opens nothing, the answer is for another request, or not root", "78  the configuration or the site secret cannot work"}

// recoverRun is one run of the verb.
type recoverRun struct {
	*app
	*elsewhere
	proof    *proofFlags
	fresh    *ui.PasswordSource
	request  string // file to write a request to
	approve  string // file with a request
	apply    string // file with an answer
	answer   string // file to write an answer to
	state    string // directory for what a request leaves behind
	yes      bool
	siteBack bool
	output   string
}

func newRecover(a *app) *cobra.Command {
	v := &recoverRun{app: a}
	c := &cobra.Command{
		Use:   "recover USER",
		Short: "Let a user back in who lost every password",
		Long: `Sets a new password with a recovery key, or with the user's recovery code. It works with the daemon or
without it, and on any machine that has a copy of the store: --store names it, and the site secret is
taken from its copy there if it is not at hand.

The private half of a recovery key need not come to this machine: --request writes a small file that
goes to where the key is; recover --approve FILE makes an answer there, which is good for this one
request alone; recover USER --apply FILE uses it here.

recover --site-secret restores the site secret from its copy in the store, with a recovery key, or
from paper with --ask-site-secret.

Every use is written to the audit log, and the user sees it in mailcryptfs status --user.`,
		Example: `  mailcryptfs recover alice@example.org --recovery-key /media/stick/recovery.key
  mailcryptfs recover alice@example.org --request alice.request
  mailcryptfs recover --approve alice.request --recovery-key recovery.key --answer alice.answer
  mailcryptfs recover alice@example.org --apply alice.answer
  mailcryptfs recover --site-secret --recovery-key /media/stick/recovery.key`,
		Annotations:       exits(recoverExits...),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	v.elsewhere = newElsewhere(c)
	v.proof, v.fresh = &proofFlags{code: secretFlags(c, "code", "the recovery code")}, secretFlags(c, "new", "the new password")
	v.proof.keyFlag(c)
	f := c.Flags()
	f.BoolVar(&v.proof.askCode, "recovery-code", false, "ask for the user's recovery code")
	f.StringVar(&v.request, "request", "", "write a request for a recovery key elsewhere to this new `file`")
	f.StringVar(&v.approve, "approve", "", "answer the request in this `file`; needs --recovery-key and --answer, and nothing else of the site")
	f.StringVar(&v.answer, "answer", "", "write the answer to this new `file`")
	f.StringVar(&v.apply, "apply", "", "use the answer in this `file`")
	f.StringVar(&v.state, "state", "/var/lib/mailcryptfs/requests", "`directory` for the private half of requests, on this machine only")
	f.BoolVar(&v.yes, "yes", false, "approve without asking")
	f.BoolVar(&v.siteBack, "site-secret", false, "restore the site secret")
	f.StringVar(&v.output, "output", "", "write the site secret to this new `file` instead of where the configuration says")
	c.Args = v.args
	c.RunE = func(c *cobra.Command, args []string) error { return v.run(c.Context(), args) }
	return c
}

// args judges what only one of the modes needs.
func (v *recoverRun) args(c *cobra.Command, args []string) error {
	modes := 0
	for _, on := range []bool{v.request != "", v.approve != "", v.apply != "", v.siteBack} {
		if on {
			modes++
		}
	}
	if modes > 1 {
		return ui.Failf(ui.ExitUsage, c.CommandPath()+" --help", "--request, --approve, --apply and --site-secret exclude each other")
	}
	if v.approve != "" || v.siteBack {
		return noArgs(c, args)
	}
	return oneUser(c, args)
}

func (v *recoverRun) run(ctx context.Context, args []string) error {
	switch {
	case v.approve != "":
		return v.runApprove()
	case v.siteBack:
		return v.restoreSite(ctx)
	case v.request != "":
		return v.runRequest(ctx, args[0])
	case v.apply != "":
		return v.runApply(ctx, args[0])
	}
	return v.reset(ctx, args[0])
}

// reset sets a new password with a secret that is at hand.
func (v *recoverRun) reset(ctx context.Context, user string) error {
	if !v.proof.given() {
		return ui.Failf(ui.ExitUsage, "mailcryptfs recover --help", "give --recovery-key FILE or --recovery-code, or make a --request")
	}
	proof, err := v.proof.read(v.app, user, "")
	if err != nil {
		return err
	}
	defer proof.Wipe()
	h, err := v.elsewhere.open(ctx, v.app, proof.Key)
	if err != nil {
		return err
	}
	defer h.close()
	if _, err := h.enrolled(ctx, user); err != nil {
		return err
	}
	fresh, err := readPassword(v.fresh, "New password of "+ui.Safe(user), true)
	if err != nil {
		return err
	}
	if err := h.Passwd(control.OwnPeer(ctx), user, proof, fresh); err != nil {
		return explain(user, err)
	}
	return v.done(user)
}

func (v *recoverRun) done(user string) error {
	return v.printf("the mail of %s opens with the new password; set the login password to the same\n", ui.Safe(user))
}
