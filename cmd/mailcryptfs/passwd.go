package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// passwd is one run of the verb.
type passwd struct {
	*app
	proof *proofFlags
	fresh *ui.PasswordSource
	site  *siteFlags
	stdin bool
}

func newPasswd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "passwd USER",
		Short: "Change the password that opens a user's mail",
		Long: `Makes the key slot that opens with the old password open with a new one. No message is touched,
sessions go on, and other slots stay as they are. Use it when the login password was changed without
the PAM module, or by somebody who did not know the old one. It does not change the login password.

If the old password is lost, the user's recovery code or a recovery key sets a new one. Where no
daemon answers, the key record in the store is changed; a daemon that starts later finds it.

With --stdin, programs such as control panels give the old and the new password as two lines on
standard input. Exit status 67 then says that the user has no key: nothing had to be changed.`,
		Example: `  mailcryptfs passwd alice@example.org
  mailcryptfs passwd alice@example.org --recovery-code
  mailcryptfs passwd alice@example.org --recovery-key /media/stick/recovery.key
  mailcryptfs passwd alice@example.org --old-fd 3 --new-fd 4 3<old 4<new`,
		Annotations: exits("64  wrong arguments, or the two new passwords differ", "67  the user is not enrolled",
			"71  no memory could be locked for keys", "74  the key record could not be written", "75  the daemon is busy",
			"77  wrong old password, recovery code or recovery key, or not root", "78  the configuration cannot work"),
		Args:              oneUser,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	p := &passwd{app: a, proof: newProofFlags(c, "old", "the old password", "recovery-code"), fresh: secretFlags(c, "new", "the new password")}
	p.site = newSiteFlags(c)
	c.Flags().BoolVar(&p.stdin, "stdin", false, "read old and new password from standard input, one on each line")
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.withHolder(c, p.site, func(h *holder) error { return p.run(c, h, args[0]) })
	}
	return c
}

func (p *passwd) run(c *cobra.Command, h *holder, user string) error {
	if _, err := h.enrolled(c.Context(), user); err != nil {
		return err
	}
	proof, fresh, err := p.secrets(user)
	if err != nil {
		return err
	}
	if err := h.Passwd(control.OwnPeer(c.Context()), user, proof, fresh); err != nil {
		return explain(user, err)
	}
	return p.printf("the password of %s was changed\n", ui.Safe(user))
}

// secrets returns the proof and the new password.
func (p *passwd) secrets(user string) (control.Proof, []byte, error) {
	if p.stdin {
		return p.lines()
	}
	proof, err := p.proof.read(p.app, user, "Old password of "+ui.Safe(user))
	if err != nil {
		return control.Proof{}, nil, err
	}
	fresh, err := readPassword(p.fresh, "New password of "+ui.Safe(user), true)
	if err != nil {
		proof.Wipe()
	}
	return proof, fresh, err
}

// lines reads what a program writes.
func (p *passwd) lines() (control.Proof, []byte, error) {
	if p.proof.given() || p.fresh.Given() {
		return control.Proof{}, nil, ui.Failf(ui.ExitUsage, "give one of them", "--stdin excludes the other sources of passwords")
	}
	if err := secret.Harden(); err != nil {
		return control.Proof{}, nil, ui.Fail(ui.ExitOSErr, "", err)
	}
	lines, err := ui.ReadLines(os.Stdin, 2)
	if err != nil {
		return control.Proof{}, nil, err
	}
	for i, what := range []string{"old", "new"} {
		if len(lines[i]) > 0 {
			continue
		}
		secret.Wipe(lines[1-i])
		return control.Proof{}, nil, ui.Failf(ui.ExitNoPerm, "the user can mend it with: mailcryptfs passwd", "the %s password is empty", what)
	}
	return control.Proof{Password: lines[0]}, lines[1], nil
}
