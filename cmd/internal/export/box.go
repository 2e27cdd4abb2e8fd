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
	dir  *offline.Dir // where the messages lie
	at   []string     // for messages to people
	name []string     // of the folder; none for the INBOX
	item func(offline.Entry) (item, bool)

	entries []offline.Entry // of dir, listed already; nil after the first pass
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
	return b.messages(func(it item, e extent, content io.Reader) error {
		name := fmt.Sprintf("%d.U%d.mailcryptfs,S=%d:2,%s", e.modified.Unix(), it.uid, e.size, it.flags)
		if err := b.put(join(at, "cur", name), e.size, e.modified, content); err != nil {
			return err
		}
		b.report.Messages++
		b.progress()
		return nil
	})
}

// uniqueDir gives a folder a path that no other one has.
func (b *box) uniqueDir(name string) []string {
	path := b.unique(nil, name)
	return []string{strings.TrimSuffix(path[0], ".mbox")}
}

func (b *box) mbox() error {
	name := "INBOX"
	if len(b.name) > 0 {
		name = strings.Join(b.name, ".")
	}
	return b.stream(b.unique(nil, name), func(w io.Writer) error {
		return b.messages(func(it item, e extent, content io.Reader) error {
			return b.append(w, envelope{it.flags, it.keywords, e.modified}, content)
		})
	})
}

// messages calls do for each message of the box; errors of do are reported. One that is gone may have been expunged, or
// have been encrypted at that moment: the next listing tells.
func (b *box) messages(do func(item, extent, io.Reader) error) error {
	seen := make(map[string]bool)
	return b.settle(b.at, func(int) (more, missed bool, err error) {
		items, err := b.items(seen)
		if err != nil {
			return false, false, err
		}
		for _, it := range items {
			err := b.message(it, do)
			if gone(err) {
				missed = true
				continue
			}
			seen[it.file] = true
			if err != nil {
				if err := b.failed(join(b.at, it.file), err); err != nil {
					return true, missed, err
				}
			}
		}
		return len(items) > 0, missed, nil
	})
}

// items lists the messages that were not seen, as they came.
func (b *box) items(seen map[string]bool) ([]item, error) {
	if b.dirs[show(b.at)]&unreadable != 0 {
		return nil, nil
	}
	entries, err := b.entries, error(nil)
	if b.entries = nil; entries == nil {
		entries, err = b.dir.List()
	}
	if gone(err) {
		b.lost(b.at)
		return nil, nil
	}
	if err != nil {
		return nil, b.unreadable(b.at, err)
	}
	var items []item
	for _, entry := range entries {
		if it, ok := b.item(entry); ok && !seen[entry.Name] {
			items = append(items, it)
		}
	}
	slices.SortFunc(items, func(x, y item) int { return int(int64(x.uid) - int64(y.uid)) })
	return items, nil
}

func (b *box) message(it item, do func(item, extent, io.Reader) error) error {
	f, err := b.dir.Open(it.file)
	if err != nil {
		return err
	}
	defer f.Close()
	e, err := it.find(f)
	if err != nil {
		return err
	}
	content, err := steady(io.NewSectionReader(f, e.off, e.size), e.size)
	if err != nil {
		return err
	}
	return do(it, e, content)
}
