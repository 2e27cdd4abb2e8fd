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

// part is one message of an mbox file. open is called twice: to see how long it becomes, and to write it.
type part struct {
	flags    string // letters as in a maildir
	keywords []string
	size     int64 // in the mbox file
	open     func() (*source, error)
}

// source is the open content of a message.
type source struct {
	io.Reader
	modified time.Time
	close    func() error
}

// mbox exports the folder as one file.
func (f *folder) mbox(root []string) error {
	var parts []part
	err := f.messages(func(sub *offline.Dir, m message) error {
		p := part{flags: m.flags(), keywords: f.named(m.flags()), open: func() (*source, error) { return f.reopen(m) }}
		if err := p.measure(sub, m.name); err != nil {
			return err
		}
		parts = append(parts, p)
		return nil
	})
	if err != nil {
		return err
	}
	return f.putMbox(f.mboxPath(root), parts)
}

// measure reads the message once.
func (p *part) measure(dir *offline.Dir, name string) error {
	file, err := dir.Open(name)
	if err != nil {
		return err
	}
	s := sourceOf(file, 0, file.Size)
	defer s.close()
	var n counter
	if err := p.write(&n, s); err != nil {
		return err
	}
	p.size = int64(n)
	return nil
}

func sourceOf(f *offline.File, off, size int64) *source {
	return &source{Reader: &whole{r: io.NewSectionReader(f, off, size), left: size}, modified: f.ModTime, close: f.Close}
}

// whole fails where a file ends before it should.
type whole struct {
	r    io.Reader
	left int64
}

func (w *whole) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	w.left -= int64(n)
	if errors.Is(err, io.EOF) && w.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// reopen opens a message again, whose flags may have changed meanwhile.
func (f *folder) reopen(m message) (*source, error) {
	var found error
	for _, sub := range append([]string{m.sub}, subs...) {
		dir, err := f.dir.Dir(sub)
		if err != nil {
			found = err
			continue
		}
		file, err := openBase(dir, m)
		dir.Close()
		if err == nil {
			return sourceOf(file, 0, file.Size), nil
		}
		found = err
	}
	return nil, found
}

func openBase(dir *offline.Dir, m message) (*offline.File, error) {
	file, err := dir.Open(m.name)
	if !gone(err) {
		return file, err
	}
	entries, listErr := dir.List()
	if listErr != nil {
		return nil, listErr
	}
	for _, e := range entries {
		if (message{m.sub, e.Name}).base() == m.base() && e.Type == 0 {
			return dir.Open(e.Name)
		}
	}
	return nil, err
}

// putMbox writes an mbox file. Whatever could not be read was left out of parts already.
func (e *exporter) putMbox(path []string, parts []part) error {
	var size int64
	for _, p := range parts {
		size += p.size
	}
	for i := range path[:len(path)-1] {
		if err := e.dir(path[:i+1]); err != nil {
			return err
		}
	}
	r, w := io.Pipe()
	done := make(chan time.Time)
	go func() {
		newest, err := e.writeMbox(w, parts)
		_ = w.CloseWithError(err) // nil gives io.EOF
		done <- newest
	}()
	err := e.put(path, size, time.Time{}, r)
	_ = r.CloseWithError(io.ErrClosedPipe) // lets the writer end
	<-done
	return err
}

func (e *exporter) writeMbox(w io.Writer, parts []part) (newest time.Time, err error) {
	for _, p := range parts {
		s, err := p.open()
		if err != nil {
			return newest, err
		}
		err = errors.Join(p.write(w, s), s.close())
		if err != nil {
			return newest, err
		}
		if s.modified.After(newest) {
			newest = s.modified
		}
		e.report.Messages++
	}
	return newest, nil
}

// write writes one message in the mboxrd format: a From_ line, flags as mail programs write them, and the message, in
// which every line that could be taken for a From_ line has one ">" more.
func (p *part) write(w io.Writer, s *source) error {
	out := bufio.NewWriterSize(w, 64<<10)
	fmt.Fprintf(out, "From MAILER-DAEMON %s\n", s.modified.UTC().Format(time.ANSIC))
	out.WriteString(p.status())
	in := bufio.NewReaderSize(s, 64<<10)
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
func (p *part) status() string {
	status, x := "O", ""
	for _, f := range []struct{ maildir, mbox string }{{"R", "A"}, {"F", "F"}, {"D", "T"}, {"T", "D"}} {
		if strings.Contains(p.flags, f.maildir) {
			x += f.mbox
		}
	}
	if strings.Contains(p.flags, "S") {
		status = "RO"
	}
	text := "Status: " + status + "\n"
	if x != "" {
		text += "X-Status: " + x + "\n"
	}
	if len(p.keywords) > 0 {
		text += "X-Keywords: " + strings.Join(p.keywords, " ") + "\n"
	}
	return text
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
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
