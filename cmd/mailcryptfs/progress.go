package main

import (
	"fmt"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
)

// bar shows the progress of one conversion on standard error, if that is a terminal.
type bar struct {
	out  *os.File
	name string
	bar  *progressbar.ProgressBar
}

// newBar returns a bar that shows nothing unless it is wanted and somebody sees it.
func newBar(a *app, user string, wanted bool) *bar {
	f, ok := a.err.(*os.File)
	if !wanted || !ok || !term.IsTerminal(int(f.Fd())) {
		return &bar{}
	}
	return &bar{out: f, name: ui.Safe(user)}
}

// show takes the progress of now.
func (b *bar) show(p control.Conversion) {
	if b.out == nil {
		return
	}
	if b.bar == nil {
		b.bar = progressbar.NewOptions64(-1, progressbar.OptionSetWriter(b.out), progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionShowCount(), progressbar.OptionSetItsString("files"), progressbar.OptionShowIts(),
			progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish(), progressbar.OptionUseANSICodes(true))
	}
	if total := p.Done + p.Left; total > 0 && total != b.bar.GetMax64() {
		b.bar.ChangeMax64(total)
	}
	b.bar.Describe(fmt.Sprintf("%s: %s", b.name, p.State))
	if p.Left > 0 { // the library ends the bar with the last file, and the conversion may find more
		_ = b.bar.Set64(p.Done) // a terminal that cannot be written to shows nothing
	}
}

// end removes the bar.
func (b *bar) end() {
	if b.bar != nil {
		_ = b.bar.Clear()
	}
}

// rest names what is left although nothing more could be done.
func rest(p control.Conversion) string {
	text := ""
	if p.Locked > 0 {
		text += fmt.Sprintf("; %d need the user's key", p.Locked)
	}
	if p.Failed > 0 {
		text += fmt.Sprintf("; %d cannot be read", p.Failed)
	}
	return text
}
