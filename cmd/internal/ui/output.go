package ui

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"
)

// JSON writes v as one indented document and a newline. Its shape is a promise to scripts.
func JSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return Failf(ExitIOErr, "", "cannot write the answer: %w", err)
	}
	return nil
}

// Table writes rows under a heading, in columns. Cells are made safe for a terminal.
func Table(w io.Writer, heading []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{heading}, rows...) {
		safe := make([]string, len(row))
		for i, cell := range row {
			safe[i] = Safe(cell)
		}
		fmt.Fprintln(t, strings.Join(safe, "\t"))
	}
	if err := t.Flush(); err != nil {
		return Failf(ExitIOErr, "", "cannot write the answer: %w", err)
	}
	return nil
}

// Safe replaces what could steer a terminal or break a line (control characters, bytes that are not UTF-8) by escapes.
// Use it on user names and file names.
func Safe(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		i += size
	}
	return b.String()
}

// Quote gives a user or file name as an argument for a POSIX shell, for the commands that messages suggest.
func Quote(s string) string {
	plain := func(r rune) bool {
		return r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._-@+=/:%,", r))
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(Safe(s), "'", `'\''`) + "'"
}
