package main

import (
	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// passwordFlags adds --password-fd and --password-file to a verb.
func passwordFlags(c *cobra.Command) *ui.PasswordSource {
	s := &ui.PasswordSource{}
	c.Flags().IntVar(&s.FD, "password-fd", -1, "read the password from the open descriptor `N`")
	c.Flags().StringVar(&s.File, "password-file", "", "read the password from this `file` (mode 0600)")
	return s
}

// readPassword reads a password in a process that leaves no core file; the caller wipes it.
func readPassword(s *ui.PasswordSource, prompt string, confirm bool) ([]byte, error) {
	if err := secret.Harden(); err != nil {
		return nil, ui.Fail(ui.ExitOSErr, "", err)
	}
	return s.Read(prompt, confirm)
}
