package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/export"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

func (e *exportVerb) tell(u account.User, r export.Report) error {
	out := e.out
	if e.tar == "-" {
		out = e.err
	}
	if e.asJSON {
		return ui.JSON(out, r)
	}
	text := fmt.Sprintf("exported %s: %d messages in %d folders, %d other files, %d KiB\n", ui.Safe(string(u)), r.Messages, r.Folders, r.Files, r.Bytes>>10)
	if r.Skipped > 0 {
		text += fmt.Sprintf("left out: %d symbolic links and the like\n", r.Skipped)
	}
	if _, err := io.WriteString(out, text); err != nil {
		return ui.Failf(ui.ExitIOErr, "", "cannot write the answer: %w", err)
	}
	return nil
}

// progressEvery is how often the line of progress changes.
const progressEvery = 200 * time.Millisecond

func (e *exportVerb) progress() func(export.Report) {
	f, ok := e.err.(*os.File)
	if e.tty = ok && term.IsTerminal(int(f.Fd())); !e.tty {
		return nil
	}
	var last time.Time
	return func(r export.Report) {
		if now := time.Now(); now.Sub(last) >= progressEvery {
			last = now
			fmt.Fprintf(e.err, "\r\x1b[K%d messages in %d folders, %d MiB", r.Messages, r.Folders, r.Bytes>>20)
		}
	}
}

func (e *exportVerb) clear() {
	if e.tty {
		fmt.Fprint(e.err, "\r\x1b[K")
	}
}
