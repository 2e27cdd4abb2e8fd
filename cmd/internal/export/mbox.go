package export

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/mailcryptfs/mailcryptfs/fs/offline"
)

// envelope is what an mbox file says of a message besides its content.
type envelope struct {
	flags    string // letters as in a maildir
	keywords []string
	modified time.Time
}

// mbox exports the folder as one file.
func (f *folder) mbox(root []string) error {
	return f.stream(f.mboxPath(root), func(w io.Writer) error {
		return f.messages(func(sub *offline.Dir, m message) error {
			file, err := sub.Open(m.name)
			if err != nil {
				return err
			}
			defer file.Close()
			content, err := steady(file, file.Size)
			if err != nil {
				return err
			}
			return f.append(w, envelope{m.flags(), f.named(m.flags()), file.ModTime}, content)
		})
	})
}

// append writes a message to an mbox file. The content is known to be readable: see steady.
func (e *exporter) append(w io.Writer, v envelope, content io.Reader) error {
	if err := e.ctx.Err(); err != nil {
		return err
	}
	if err := v.write(w, content); err != nil {
		return fmt.Errorf("%w: %w", errDest, err)
	}
	e.report.Messages++
	e.progress()
	return nil
}

// write writes one message in the mboxrd format: a From_ line, flags as mail programs write them, and the message, in
// which every line that could be taken for a From_ line has one ">" more.
func (v *envelope) write(w io.Writer, content io.Reader) error {
	out := bufio.NewWriterSize(w, 64<<10)
	fmt.Fprintf(out, "From MAILER-DAEMON %s\n", v.modified.UTC().Format(time.ANSIC))
	out.WriteString(v.status())
	in := bufio.NewReaderSize(content, 64<<10)
	start, last := true, byte('\n')
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			if start && bytes.HasPrefix(bytes.TrimLeft(line, ">"), []byte("From ")) {
				out.WriteByte('>')
			}
			out.Write(line)
			last = line[len(line)-1]
			start = last == '\n'
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull) || err == nil:
			continue
		case !errors.Is(err, io.EOF):
			return err
		}
		if last != '\n' {
			out.WriteByte('\n')
		}
		out.WriteByte('\n')
		return out.Flush() // it keeps the first error of the writes before
	}
}

// status gives the flags of a message as header lines.
func (v *envelope) status() string {
	status, x := "O", ""
	for _, f := range []struct{ maildir, mbox string }{{"R", "A"}, {"F", "F"}, {"D", "T"}, {"T", "D"}} {
		if strings.Contains(v.flags, f.maildir) {
			x += f.mbox
		}
	}
	if strings.Contains(v.flags, "S") {
		status = "RO"
	}
	text := "Status: " + status + "\n"
	if x != "" {
		text += "X-Status: " + x + "\n"
	}
	if len(v.keywords) > 0 {
		text += "X-Keywords: " + strings.Join(v.keywords, " ") + "\n"
	}
	return text
}

// mboxPath names the file of the folder: INBOX.mbox for the maildir itself, Work.mbox for its folder .Work.
func (f *folder) mboxPath(root []string) []string {
	rest := f.at[len(root):]
	path := join(root)
	if len(rest) == 0 {
		return f.unique(path, "INBOX")
	}
	last := len(rest) - 1
	path = append(path, rest[:last]...)
	name := strings.TrimPrefix(rest[last], ".")
	if name == "" {
		name = rest[last]
	}
	return f.unique(path, name)
}

// unique gives a path that no other folder got.
func (e *exporter) unique(dir []string, name string) []string {
	if e.taken == nil {
		e.taken = make(map[string]bool)
	}
	const suffix = ".mbox"
	name = name[:min(len(name), 240)]
	path := join(dir, name+suffix)
	for n := 2; e.taken[show(path)]; n++ {
		path = join(dir, fmt.Sprintf("%s~%d%s", name, n, suffix))
	}
	e.taken[show(path)] = true
	return path
}
