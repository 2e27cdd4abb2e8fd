package export

import (
	iofs "io/fs"
	"path"
	"slices"
	"strings"

	"github.com/mailcryptfs/mailcryptfs/fs/offline"
)

// subs are the directories of messages in a maildir folder. tmp holds what is not delivered yet.
var subs = []string{"cur", "new"}

// rebuilt are files that mail servers make anew from the messages, and locks.
var rebuilt = []string{
	"dovecot.index*", "dovecot.list.index*", "dovecot.mailbox.log*", "dovecot-vsize.lock", "*.lock", "maildirsize", "*.svbin",
	"lucene-indexes", "xapian-indexes", "fts-flatcurve", "courierimapuiddb.lock",
}

func isRebuilt(name string) bool {
	return slices.ContainsFunc(rebuilt, func(p string) bool {
		ok, _ := path.Match(p, name) // the patterns are good
		return ok
	})
}

// tree exports a directory of a user with maildir folders in it, which may be one itself. root is the path of the maildir
// that it belongs to, nil if to none; with Mbox, only messages are exported.
func (e *exporter) tree(dir *offline.Dir, at, root []string) error {
	entries, err := dir.List()
	if err != nil {
		return err
	}
	has := func(name string) bool {
		return slices.ContainsFunc(entries, func(e offline.Entry) bool { return e.Name == name && e.Type.IsDir() })
	}
	isFolder := has("cur") || has("new")
	if isFolder && root == nil {
		root = join(at)
		if root == nil {
			root = []string{}
		}
	}
	first, err := e.first(at, dir.Ino())
	if err != nil {
		return err
	}
	if first && e.Format == Maildir {
		if err := e.dir(at); err != nil {
			return err
		}
	}
	if first && isFolder {
		e.report.Folders++
		f := &folder{exporter: e, dir: dir, at: at, keywords: keywordsOf(dir)}
		if err := f.export(root); err != nil {
			return err
		}
	}
	for _, entry := range entries {
		if isFolder && slices.Contains([]string{"cur", "new", "tmp"}, entry.Name) || isRebuilt(entry.Name) {
			continue
		}
		path := join(at, entry.Name)
		switch {
		case entry.Type.IsDir():
			err = e.sub(dir, entry.Name, path, func(sub *offline.Dir, at []string) error { return e.tree(sub, at, root) })
		case first:
			err = e.entry(dir, entry, path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// entry exports one entry of a directory that is no message and no directory.
func (e *exporter) entry(dir *offline.Dir, entry offline.Entry, at []string) error {
	switch {
	case entry.Type != 0:
		if entry.Type&iofs.ModeSymlink != 0 {
			e.report.Skipped++
		}
		return nil
	case e.Format == Mbox:
		return nil
	}
	err := e.copyFile(dir, entry.Name, at)
	switch {
	case gone(err):
		e.notice(dir, at[:len(at)-1]) // it is none of the messages, but what is with it may have gone too
		return nil
	case err != nil:
		return e.failed(at, err)
	}
	e.report.Files++
	e.progress()
	return nil
}

// folder is a maildir folder that is being exported.
type folder struct {
	*exporter
	dir      *offline.Dir
	at       []string
	keywords map[byte]string
	seen     map[string]bool // names without their flags
}

// message is one file in cur or new.
type message struct {
	sub, name string
}

// base is the part of a message's name that stays when its flags change.
func (m message) base() string {
	base, _, _ := strings.Cut(m.name, ":")
	return base
}

// flags are the letters after ":2,".
func (m message) flags() string {
	_, info, _ := strings.Cut(m.name, ":2,")
	return info
}

func (f *folder) export(root []string) error {
	f.seen = make(map[string]bool)
	if f.Format == Mbox {
		return f.mbox(root)
	}
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := f.exporter.dir(join(f.at, sub)); err != nil {
			return err
		}
	}
	return f.messages(func(sub *offline.Dir, m message) error {
		err := f.copyFile(sub, m.name, join(f.at, m.sub, m.name))
		if err == nil {
			f.report.Messages++
			f.progress()
		}
		return err
	})
}

// messages calls do for each message of the folder. A message whose flags change meanwhile is looked for under its new
// name; errors of do are reported.
func (f *folder) messages(do func(sub *offline.Dir, m message) error) error {
	return f.settle(f.at, func(pass int) (more, missed bool, err error) {
		for _, sub := range subs {
			at := join(f.at, sub)
			if f.dirs[show(at)]&unreadable != 0 {
				continue
			}
			m, lost, err := f.inSub(sub, pass > 0, do)
			more, missed = more || m, missed || lost
			switch {
			case gone(err): // there was none, or it went with the folder
				f.notice(f.dir, f.at)
			case err != nil:
				if err := f.unreadable(at, err); err != nil {
					return more, missed, err
				}
			}
		}
		return more, missed, nil
	})
}

// inSub goes through cur or new; with fresh, only what was not seen before. It tells whether there was something, and
// whether something was gone when it was opened.
func (f *folder) inSub(sub string, fresh bool, do func(*offline.Dir, message) error) (some, missed bool, err error) {
	dir, err := f.dir.Dir(sub)
	if err != nil {
		return false, false, err
	}
	defer dir.Close()
	entries, err := dir.List()
	if err != nil {
		return false, false, err
	}
	for _, entry := range entries {
		m := message{sub, entry.Name}
		if entry.Type != 0 {
			if !fresh {
				f.report.Skipped++
			}
			continue
		}
		if fresh && f.seen[m.base()] {
			continue
		}
		some = true
		err := do(dir, m)
		if gone(err) {
			missed = true
			continue
		}
		f.seen[m.base()] = true
		if err != nil {
			if err := f.failed(join(f.at, sub, entry.Name), err); err != nil {
				return some, missed, err
			}
		}
	}
	return some, missed, nil
}
