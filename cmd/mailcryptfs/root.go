package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// app is what all verbs share.
type app struct {
	out, err   io.Writer
	configPath string
}

// exitKey is the annotation that holds the documented exit status of a verb, one "code meaning" per line.
const exitKey = "exit"

const rootLong = `mailcryptfs mounts an encrypted store of mail as a plain view for an unmodified mail server.
Each user's messages can be read only while that user is unlocked; everything else, delivery
included, works all the time.

Every verb but version needs root. Passwords and other secrets are asked for, or read from a
descriptor or a file; they are never arguments.`

const rootExample = `  mailcryptfs setup                       prepare this machine
  mailcryptfs serve                       run the daemon (systemctl start mailcryptfs)
  mailcryptfs enroll alice@example.org    give a user a key
  mailcryptfs unlock alice@example.org
  mailcryptfs who`

const usageTemplate = `Usage:{{if .Runnable}}
  {{.UseLine}}{{end}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} VERB [flags]{{end}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}

Verbs:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding }} {{.Short}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableInheritedFlags}}

Common flags:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{with index .Annotations "exit"}}

Exit status:
{{.}}{{end}}
`

// newRoot makes the whole tree of verbs.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "mailcryptfs",
		Short:         "Encrypted mail storage beneath an unmodified mail server",
		Long:          rootLong,
		Example:       rootExample,
		Annotations:   exits("64  no verb, or one that does not exist"),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          unknownVerb,
	}
	root.PersistentFlags().StringVar(&a.configPath, "config", config.DefaultPath, "configuration `file`")
	root.SetUsageTemplate(usageTemplate)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return ui.Fail(ui.ExitUsage, c.CommandPath()+" --help", err)
	})
	root.SuggestionsMinimumDistance = 2
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newSetup(a), newServe(a), newEnroll(a), newUnlock(a), newLock(a), newStatus(a), newWho(a), newPasswd(a),
		newEncrypt(a), newDecrypt(a), newRegister(a), newVerify(a),
		newSlot(a), newRecover(a), newRecovery(a), newRotate(a), newForget(a),
		newLogVerb(a), newDoctor(a), newLeaktest(a), newExport(a),
		newVersion(a), newMan(a))
	return root
}

func unknownVerb(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return ui.Failf(ui.ExitUsage, "mailcryptfs --help", "no verb given")
	}
	next := "mailcryptfs --help"
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		next = "mailcryptfs " + near[0]
	}
	return ui.Failf(ui.ExitUsage, next, "there is no verb %q", args[0])
}

// exits documents the exit status of a verb; every verb has 0 and 64.
func exits(lines ...string) map[string]string {
	all := append([]string{"0   it was done"}, lines...)
	return map[string]string{exitKey: "  " + strings.Join(all, "\n  ")}
}

// noArgs and oneUser judge the arguments of a verb.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return ui.Failf(ui.ExitUsage, c.CommandPath()+" --help", "%s takes no argument: %q", c.Name(), args[0])
	}
	return nil
}

func oneUser(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return ui.Failf(ui.ExitUsage, c.CommandPath()+" --help", "%s takes one argument, a user name", c.Name())
	}
	return checkUser(args[0])
}

func checkUser(name string) error {
	if _, err := account.Parse(name); err != nil {
		return ui.Fail(ui.ExitUsage, "write the name as the mail server does, for example alice@example.org", err)
	}
	return nil
}

// config reads the configuration file.
func (a *app) config() (config.Config, error) {
	c, err := config.Load(a.configPath)
	if err == nil {
		return c, nil
	}
	return config.Config{}, ui.Fail(ui.ExitConfig, configRemedy(a.configPath, err), err)
}

// client reads the configuration and returns a client of the daemon that serves it.
func (a *app) client() (*control.Client, error) {
	c, err := a.config()
	if err != nil {
		return nil, err
	}
	return control.NewClient(c.Control), nil
}

func (a *app) printf(format string, args ...any) error {
	if _, err := fmt.Fprintf(a.out, format, args...); err != nil {
		return ui.Failf(ui.ExitIOErr, "", "cannot write the answer: %w", err)
	}
	return nil
}

// warn tells people something that does not change the result.
func (a *app) warn(format string, args ...any) {
	_, _ = fmt.Fprintf(a.err, "mailcryptfs: warning: "+format+"\n", args...) // nobody left to tell
}
