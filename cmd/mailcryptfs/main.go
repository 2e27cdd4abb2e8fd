// Command mailcryptfs mounts an encrypted store of mail as a plain view, and lets root manage whose mail can be read.
//
// This package only joins the others: one file per verb, and the wiring of the daemon in serve.go.
package main

import (
	"context"
	"io"
	"os"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot(&app{out: stdout, err: stderr})
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err != nil {
		_, _ = io.WriteString(stderr, ui.Message(err)) // nobody left to tell
	}
	return ui.ExitCode(err)
}
