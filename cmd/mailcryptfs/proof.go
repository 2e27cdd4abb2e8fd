package main

import (
	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// proofFlags are the ways to show that a change of a user's key is allowed.
type proofFlags struct {
	password *ui.PasswordSource
	code     *ui.PasswordSource
	askCode  bool
	key      string
}

// newProofFlags adds the flags of all three secrets; password is what the flags of the password are called, askCode the
// flag that asks for the recovery code.
func newProofFlags(c *cobra.Command, password, what, askCode string) *proofFlags {
	p := &proofFlags{password: secretFlags(c, password, what), code: secretFlags(c, "code", "the recovery code")}
	c.Flags().BoolVar(&p.askCode, askCode, false, "ask for the recovery code instead of a password")
	p.keyFlag(c)
	return p
}

func (p *proofFlags) keyFlag(c *cobra.Command) {
	c.Flags().StringVar(&p.key, "recovery-key", "", "use the recovery key in this `file`; - for standard input")
}

func (p *proofFlags) byCode() bool { return p.askCode || p.code != nil && p.code.Given() }

// given reports whether the command line names a secret.
func (p *proofFlags) given() bool {
	return p.byCode() || p.key != "" || p.password != nil && p.password.Given()
}

// read returns what the command line names, or asks for a password with the prompt. The caller wipes it.
func (p *proofFlags) read(a *app, user, prompt string) (control.Proof, error) {
	byPassword := p.password != nil && p.password.Given()
	if p.byCode() && p.key != "" || byPassword && (p.byCode() || p.key != "") {
		return control.Proof{}, ui.Failf(ui.ExitUsage, "give one of them", "password, recovery code and recovery key exclude each other")
	}
	switch {
	case p.key != "":
		key, err := a.readKey(p.key)
		return control.Proof{Key: key}, err
	case p.byCode():
		code, err := readPassword(p.code, "Recovery code of "+ui.Safe(user), false)
		return control.Proof{Code: code}, err
	}
	password, err := readPassword(p.password, prompt, false)
	return control.Proof{Password: password}, err
}

// readKey reads the file of a recovery key; the caller wipes it.
func (a *app) readKey(path string) ([]byte, error) {
	if err := secret.Harden(); err != nil {
		return nil, ui.Fail(ui.ExitOSErr, "", err)
	}
	key, warning, err := ui.ReadSecretFile(path, control.MaxKey)
	if warning != "" {
		a.warn("%s", warning)
	}
	return key, err
}
