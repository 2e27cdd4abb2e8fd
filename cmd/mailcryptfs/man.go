package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/manpage"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
)

func newMan(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages of all verbs",
		Long:   "Writes the manual pages of all verbs into a directory. Run it after a change of any help text:\nmailcryptfs man contrib/man",
		Hidden: true,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return ui.Failf(ui.ExitUsage, "", "man takes one argument, a directory")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			for _, page := range manpage.Tree(c.Root(), exitKey) {
				if err := os.WriteFile(filepath.Join(args[0], page.File), page.Text, 0o644); err != nil {
					return ui.Failf(ui.ExitCantCreate, "", "cannot write a manual page: %w", err)
				}
			}
			return nil
		},
	}
}
