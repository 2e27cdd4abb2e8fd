package export

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/mailcryptfs/mailcryptfs/fs/offline"
)

// box is a mailbox of a mail server that keeps messages in other files than maildir's.
type box struct {
	*exporter
	dir   *offline.Dir // where the messages lie
	at    []string     // for messages to people
	name  []string     // of the folder; none for the INBOX
	items []item
}

// item is one message of a box.
type item struct {
	file     string
	uid      uint32
	flags    string // letters as in a maildir
	keywords []string
	find     func(*offline.File) (extent, error)
}

// extent says where in a file the message is.
type extent struct {
	off, size int64
	modified  time.Time
}

// write exports the box: as a maildir folder, or as an mbox file.
func (b *box) write() error {
	b.report.Folders++
	slices.SortFunc(b.items, func(x, y item) int { return int(int64(x.uid) - int64(y.uid)) })
	if b.Format == Mbox {
		return b.mbox()
	}
	at := []string{}
	if len(b.name) > 0 {
		at = b.uniqueDir("." + strings.Join(b.name, "."))
	}
	for _, dir := range [][]string{nil, at, join(at, "cur"), join(at, "new"), join(at, "tmp")} {
		if err := b.exporter.dir(dir); err != nil {
			return err
		}
	}
	if len(at) > 0 { // that is what tells maildrop and others that this is a folder
		if err := b.put(join(at, "maildirfolder"), 0, time.Time{}, strings.NewReader("")); err != nil {
			return err
		}
	}
	for _, it := range b.items {
		if err := b.message(at, it); err != nil {
			if err := b.failed(join(b.at, it.file), err); err != nil {
				return err
			}
		}
	}
	return nil
}

// uniqueDir gives a folder a path that no other one has.
func (b *box) uniqueDir(name string) []string {
	path := b.unique(nil, name)
	return []string{strings.TrimSuffix(path[0], ".mbox")}
}

func (b *box) message(at []string, it item) error {
	s, size, err := b.open(it)
	if err != nil || s == nil {
		return err
	}
	defer s.close()
	content, err := steady(s.at, size)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%d.U%d.mailcryptfs,S=%d:2,%s", s.modified.Unix(), it.uid, size, it.flags)
	if err := b.put(join(at, "cur", name), size, s.modified, content); err != nil {
		return err
	}
	b.report.Messages++
	b.progress()
	return nil
}

// located is a message in an open file.
type located struct {
	source
	at io.ReaderAt
}

// open opens the file of a message; nil for one that is gone since it was listed.
func (b *box) open(it item) (*located, int64, error) {
	f, err := b.dir.Open(it.file)
	if gone(err) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	e, err := it.find(f)
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	s := sourceOf(f, e.off, e.size)
	s.modified = e.modified
	return &located{*s, io.NewSectionReader(f, e.off, e.size)}, e.size, nil
}

func (b *box) mbox() error {
	var parts []part
	for _, it := range b.items {
		p := part{flags: it.flags, keywords: it.keywords, open: func() (*source, error) {
			s, _, err := b.open(it)
			if s == nil {
				return nil, err
			}
			return &s.source, err
		}}
		s, err := p.open()
		if s == nil && err == nil {
			continue
		}
		if err == nil {
			var n counter
			err = p.write(&n, s)
			p.size = int64(n)
			_ = s.close()
		}
		if err == nil {
			parts = append(parts, p)
			continue
		}
		if err := b.failed(join(b.at, it.file), err); err != nil {
			return err
		}
	}
	name := "INBOX"
	if len(b.name) > 0 {
		name = strings.Join(b.name, ".")
	}
	return b.putMbox(b.unique(nil, name), parts)
}
