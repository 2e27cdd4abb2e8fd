package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/leaktest"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
)

func leaktestProblem(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ui.Failf(ui.ExitTempFail, "start again", "the test was interrupted; its messages were removed")
	}
	return ui.Fail(ui.ExitIOErr, "", err)
}

func (l *leaktestVerb) tell(c config.Config, k *kept, a leaks) error {
	var err error
	if l.asJSON {
		err = ui.JSON(l.out, a)
	} else {
		err = l.table(a)
	}
	if err != nil {
		return err
	}
	if len(a.Found) == 0 {
		return nil
	}
	next := "find out who wrote the places named above; mailcryptfs doctor knows the usual ones"
	if c.Delivery == "plaintext" || c.Unenrolled == "plaintext" {
		next = "messages for locked users are stored in plain text, as configured, until the next unlock; " + next
	}
	return ui.Failf(ui.ExitDataErr, next, "text of the messages to %s was found in clear (places: %d)", ui.Safe(k.User), len(a.Found))
}

func (l *leaktestVerb) table(a leaks) error {
	for _, h := range a.Found {
		if err := l.printf("FOUND  %s as %s in the %s of %s, at byte %d (times: %d)\n", h.Part, h.Form, h.What, ui.Safe(h.Where), h.At, h.Count); err != nil {
			return err
		}
	}
	return l.printf("searched %d names, %d files and %d MiB in %s; not searched: %d files that were gone or not readable\n",
		a.Searched.Entries, a.Searched.Files, a.Searched.Bytes>>20, ui.Safe(strings.Join(a.Places, " ")), a.Searched.Skipped)
}

func (l *leaktestVerb) progress() func(leaktest.Searched) {
	f, ok := l.err.(*os.File)
	if l.tty = ok && term.IsTerminal(int(f.Fd())); !l.tty {
		return nil
	}
	var last time.Time
	return func(s leaktest.Searched) {
		if now := time.Now(); now.Sub(last) >= progressEvery {
			last = now
			fmt.Fprintf(l.err, "\r\x1b[K%d files, %d MiB", s.Files, s.Bytes>>20)
		}
	}
}

func (l *leaktestVerb) clear() {
	if l.tty {
		fmt.Fprint(l.err, "\r\x1b[K")
	}
}
