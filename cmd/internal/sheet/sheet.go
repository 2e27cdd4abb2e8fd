// Package sheet makes the page that a secret is kept on: plain words about what it is and what to do with it, the secret
// itself, and a QR code of it. It is printed once and never sent: as text on a terminal, or as a page for a printer.
package sheet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// ErrFormat says that a file name does not tell how the page shall be written.
var ErrFormat = errors.New("a sheet is written as .html (for a printer, with a QR code), .svg (the QR code alone) or .txt")

// Sheet is one page.
type Sheet struct {
	Title string
	About []string    // paragraphs before the secret
	Facts [][2]string // what is written beside it: name, value
	Text  []byte      // the secret as people read and type it, in one or more lines; the caller's to wipe
	Code  []byte      // what the QR code says; nil: no code. The caller's to wipe
	Rules []string    // what to do with the page
}

// Render returns the page in the form that the extension of name asks for; the caller wipes it. Error: ErrFormat, and that
// of the QR library for a text that is too long.
func (s *Sheet) Render(name string) ([]byte, error) {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".txt":
		return s.Plain(), nil
	case ".html", ".htm":
		return s.html()
	case ".svg":
		q, err := encode(s.Code)
		if err != nil {
			return nil, err
		}
		defer q.wipe()
		var b buffer
		q.svg(&b)
		return b.take(), nil
	}
	return nil, ErrFormat
}

// Plain returns the page as text of at most 78 columns, but for the lines of the secret; the caller wipes it.
func (s *Sheet) Plain() []byte {
	var b buffer
	b.text(strings.ToUpper(s.Title) + "\n")
	for _, p := range s.About {
		b.text("\n" + wrap(p, 78, "") + "\n")
	}
	b.text("\n")
	for line := range bytes.SplitSeq(bytes.TrimRight(s.Text, "\n"), []byte("\n")) {
		b.text("    ")
		b.bytes(line)
		b.text("\n")
	}
	b.text("\n")
	for _, f := range s.Facts {
		b.text(fmt.Sprintf("%-9s %s\n", f[0]+":", f[1]))
	}
	for _, r := range s.Rules {
		b.text("\n" + wrap("- "+r, 78, "  "))
	}
	b.text("\n")
	return b.take()
}

// Write writes a page to a file that must not exist, mode 0600, durably, and wipes the page.
func Write(path string, page []byte) (err error) {
	defer secret.Wipe(page)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write the sheet: %w", err)
	}
	_, err = io.Copy(f, bytes.NewReader(page))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cannot write the sheet: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}

// wrap breaks a paragraph at blanks; further lines begin with indent.
func wrap(text string, width int, indent string) string {
	var b strings.Builder
	column := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case column+1+len(word) > width:
			b.WriteString("\n" + indent)
			column = len(indent)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}

// buffer collects a page, and leaves no copy of it behind when it grows.
type buffer struct{ b []byte }

func (b *buffer) bytes(p []byte) {
	if len(b.b)+len(p) > cap(b.b) {
		grown := make([]byte, len(b.b), 2*(len(b.b)+len(p))+1024)
		copy(grown, b.b)
		secret.Wipe(b.b)
		b.b = grown
	}
	b.b = append(b.b, p...)
}

// text adds what is not secret.
func (b *buffer) text(s string) { b.bytes([]byte(s)) }

func (b *buffer) take() []byte { return b.b }
