package export

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/mailcryptfs/mailcryptfs/fs/offline"
)

// mailsName is the directory of messages in each mailbox of sdbox.
const mailsName = "dbox-Mails"

// dbox exports the mailboxes below a directory: <name>/dbox-Mails/u.<uid>, below a directory "mailboxes". Flags are in
// Dovecot's index, which is not read.
func (e *exporter) dbox(dir *offline.Dir, at []string) error {
	if err := e.dir(nil); err != nil {
		return err
	}
	entries, err := dir.List()
	if err != nil {
		return err
	}
	first, err := e.first(at, dir.Ino())
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !entry.Type.IsDir() {
			if first && entry.Type != 0 {
				e.report.Skipped++
			}
			continue
		}
		read := e.dbox
		if entry.Name == mailsName {
			read = e.dboxMails
		}
		if err := e.sub(dir, entry.Name, join(at, entry.Name), read); err != nil {
			return err
		}
	}
	return nil
}

func (e *exporter) dboxMails(dir *offline.Dir, at []string) error {
	entries, err := dir.List()
	if err != nil {
		return err
	}
	if first, err := e.first(at, dir.Ino()); err != nil || !first {
		return err
	}
	b := &box{exporter: e, dir: dir, at: at, name: dboxName(at), item: dboxItem, entries: entries}
	return b.write()
}

func dboxItem(entry offline.Entry) (item, bool) {
	digits, ok := strings.CutPrefix(entry.Name, "u.")
	uid, err := strconv.ParseUint(digits, 10, 32)
	return item{file: entry.Name, uid: uint32(uid), find: findDbox}, ok && err == nil && entry.Type == 0
}

// dboxName is the name of the mailbox whose messages lie at path; none for the INBOX.
func dboxName(path []string) []string {
	name := path[:len(path)-1]
	for i, c := range name {
		if c == "mailboxes" {
			name = name[i+1:]
			break
		}
	}
	if len(name) == 1 && strings.EqualFold(name[0], "INBOX") {
		return nil
	}
	return name
}

var errDbox = errors.New("it is not a file of Dovecot's dbox format")

// dboxHeader is the length of a message's header in a dbox file of version 2, in bytes.
const dboxHeader = 30

// findDbox finds the message in a file of Dovecot's single-dbox format: a line that describes the file, a header that
// tells the size, the message, and lines of metadata.
func findDbox(f *offline.File) (extent, error) {
	head := bufio.NewReader(io.NewSectionReader(f, 0, min(f.Size, 512)))
	line, err := head.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "2 ") {
		return extent{}, errors.Join(errDbox, skipEOF(err))
	}
	size := int64(dboxHeader)
	for _, field := range strings.Fields(line)[1:] {
		if field[0] == 'M' {
			if size, err = strconv.ParseInt(field[1:], 16, 32); err != nil || size < dboxHeader {
				return extent{}, errDbox
			}
		}
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, int64(len(line))); err != nil {
		return extent{}, errors.Join(errDbox, skipEOF(err))
	}
	length, err := strconv.ParseInt(strings.TrimSpace(string(b[13:29])), 16, 64)
	e := extent{off: int64(len(line)) + size, size: length, modified: f.ModTime}
	if string(b[:3]) != "\x01\x02N" || err != nil || length < 0 || e.off+length > f.Size {
		return extent{}, errDbox
	}
	return e, e.metadata(f)
}

// metadata reads what stands after the message: R and the time of arrival, X for parts that are kept in other files, Z
// for a message that is compressed.
func (e *extent) metadata(f *offline.File) error {
	from := e.off + e.size
	in := bufio.NewScanner(io.NewSectionReader(f, from, min(f.Size-from, 16<<10)))
	for in.Scan() {
		line := in.Text()
		switch {
		case strings.HasPrefix(line, "R"):
			if t, err := strconv.ParseInt(line[1:], 16, 64); err == nil {
				e.modified = time.Unix(t, 0)
			}
		case strings.HasPrefix(line, "X"):
			return fmt.Errorf("%w that we can read: its attachments are in other files", errDbox)
		}
	}
	return in.Err()
}

func skipEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
