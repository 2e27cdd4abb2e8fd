package main

import (
	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// passwordFlags adds --password-fd and --password-file to a verb.
func passwordFlags(c *cobra.Command) *ui.PasswordSource {
	return secretFlags(c, "password", "the password")
}

// secretFlags adds --NAME-fd and --NAME-file to a verb: there is no flag that takes a secret itself.
func secretFlags(c *cobra.Command, name, what string) *ui.PasswordSource {
	s := &ui.PasswordSource{Name: name}
	c.Flags().IntVar(&s.FD, name+"-fd", -1, "read "+what+" from the open descriptor `N`")
	c.Flags().StringVar(&s.File, name+"-file", "", "read "+what+" from this `file` (mode 0600)")
	return s
}

// readPassword reads a password in a process that leaves no core file; the caller wipes it.
func readPassword(s *ui.PasswordSource, prompt string, confirm bool) ([]byte, error) {
	if err := secret.Harden(); err != nil {
		return nil, ui.Fail(ui.ExitOSErr, "", err)
	}
	return s.Read(prompt, confirm)
}
