// Command mailcryptfs mounts an encrypted store of mail as a plain view, and lets root manage whose mail can be read.
//
// This package only joins the others: one file per verb, and the wiring of the daemon in serve.go.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/mountpoint"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
)

func main() {
	mountpoint.BeProber()
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a := &app{out: stdout, err: stderr}
	root := newRoot(a)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err != nil {
		_, _ = io.WriteString(stderr, ui.Message(a.sameConfig(err))) // nobody left to tell
	}
	return ui.ExitCode(err)
}

// sameConfig lets a suggested command use the configuration file of the command that failed.
func (a *app) sameConfig(err error) error {
	var p *ui.Problem
	if a.configPath == config.DefaultPath || !errors.As(err, &p) || !strings.HasPrefix(p.Next, "mailcryptfs ") ||
		strings.ContainsAny(p.Next, ",;") || strings.Contains(p.Next, "--help") {
		return err
	}
	return ui.Fail(p.Code, p.Next+" --config "+ui.Quote(a.configPath), err)
}
