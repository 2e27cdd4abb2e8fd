package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/fs/check"
)

// report shows what verify finds: line by line for people, in one document for programs.
type report struct {
	*app
	asJSON   bool
	tty      bool // standard error is a terminal: show progress there
	findings []check.Finding
	failure  error // the first failure to write
}

func newReport(a *app, asJSON bool) *report {
	f, ok := a.err.(*os.File)
	return &report{app: a, asJSON: asJSON, tty: ok && term.IsTerminal(int(f.Fd())), findings: []check.Finding{}}
}

// found takes one finding; check.Verify calls it one at a time.
func (r *report) found(f check.Finding) {
	if r.asJSON {
		r.findings = append(r.findings, f)
		return
	}
	r.clear()
	if err := r.printf("%s\n", findingLine(f)); r.failure == nil {
		r.failure = err
	}
}

func findingLine(f check.Finding) string {
	var b strings.Builder
	mark := "note   "
	if f.Damage {
		mark = "DAMAGE "
	}
	fmt.Fprintf(&b, "%s %-18s %s", mark, f.Kind, ui.Safe(cmp.Or(f.View, f.Store)))
	if f.User != "" {
		fmt.Fprintf(&b, " (user %s)", ui.Safe(f.User))
	}
	if len(f.Blocks) == 2 {
		fmt.Fprintf(&b, ", blocks %d to %d", f.Blocks[0], f.Blocks[1])
	}
	if f.Detail != "" {
		b.WriteString(": " + ui.Safe(f.Detail))
	}
	if f.View != "" {
		b.WriteString("\n        stored as " + ui.Safe(f.Store))
	}
	return b.String()
}

// progress returns the function that shows how far a check has come, or nil where nobody would see it.
func (r *report) progress() func(check.Progress) {
	if !r.tty {
		return nil
	}
	return func(p check.Progress) {
		line := []rune(fmt.Sprintf("%d files, %d MiB  %s", p.Files, p.Bytes>>20, ui.Safe(p.Path)))
		fmt.Fprintf(r.err, "\r\x1b[K%s", string(line[:min(len(line), 78)]))
	}
}

// clear removes the line of progress.
func (r *report) clear() {
	if r.tty {
		fmt.Fprint(r.err, "\r\x1b[K")
	}
}

// document is the stable answer of verify --json.
type document struct {
	Findings []check.Finding `json:"findings"`
	Summary  check.Summary   `json:"summary"`
}

func (r *report) finish(s check.Summary) error {
	if r.asJSON {
		return ui.JSON(r.out, document{r.findings, s})
	}
	if r.failure != nil {
		return r.failure
	}
	rows := [][]string{
		{"opened completely", amount(s.Full)},
		{"checked without their keys", amount(s.Structure)},
		{"not encrypted", amount(s.Plain)},
		{"key records", fmt.Sprint(s.Records)},
		{"lines of the audit log", fmt.Sprint(s.Audit)},
		{"damage", fmt.Sprint(s.Damage)},
		{"time", s.Duration.Round(time.Millisecond).String()},
	}
	if m := s.Manifest; m != nil {
		rows = append(rows, []string{"messages of " + m.Created.Local().Format(time.DateTime), fmt.Sprintf("%d: %d there, %d sealed anew, %d gone, %d exchanged; %d new",
			m.Messages, m.Present, m.Anew, m.Gone, m.Replaced, m.New)})
	}
	for _, u := range slices.Sorted(maps.Keys(s.Locked)) {
		rows = append(rows, []string{"locked: " + string(u), fmt.Sprintf("%d files", s.Locked[u])})
	}
	return ui.Table(r.out, []string{"CHECKED", fmt.Sprintf("%d directories", s.Directories)}, rows)
}

func amount(a check.Amount) string { return fmt.Sprintf("%d files, %d KiB", a.Files, a.Bytes>>10) }
