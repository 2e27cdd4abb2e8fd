package check

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/route"
)

const (
	// again is how many times what changes meanwhile is looked at once more before it is called bad.
	again      = 3
	againPause = 100 * time.Millisecond
)

// job is a regular file to check; its place holds a count of the directory.
type job struct {
	at     place
	name   string // in the view
	stored names.Stored
}

func (j job) finding() Finding { return j.at.finding(j.name, j.stored.Name) }

// worker checks files, one at a time.
type worker struct {
	*run
	buf [chunkBlocks * format.BlockSize]byte
	out [format.BlockSize]byte
}

// look is what one look at a file told.
type look struct {
	gone    bool // it is no longer there, or no longer a file
	changed bool // it may have changed while it was looked at
	size    int64
	header  *format.Header // nil: there is none that could be read
	bad     []Finding
	answer  answer // of its key; opened if it needs none
	plain   bool
}

// pause lets others finish what they are at; false means that the context has ended.
func (r *run) pause() bool {
	select {
	case <-r.ctx.Done():
		return false
	case <-time.After(againPause):
		return true
	}
}

// check looks at a file, again if it changes meanwhile, or whose it is, and reports the last look.
func (w *worker) check(j job) {
	defer j.at.dir.Release()
	path := join(j.at.view, j.name)
	w.current.Store(&path)
	w.tally.files.Add(1)
	var l look
	for try := 0; ; try++ {
		l = w.look(j)
		if w.ctx.Err() != nil || l.gone {
			return
		}
		if len(l.bad) == 0 || try == again {
			break
		}
		if l.answer.kind != "" && w.handedOver(&j.at) { // no key of those who had the mailbox when its header was read
			if !w.wanted(j.at) {
				return
			}
			continue
		}
		if !l.changed {
			break
		}
		if !w.pause() {
			return
		}
	}
	for _, f := range l.bad {
		w.found(f)
	}
	w.note(j, l)
	if w.glance {
		return
	}
	w.tally.add(func(s *Summary) {
		switch {
		case l.plain:
			s.Plain.add(l.size)
		case l.answer.state == opened:
			s.Full.add(l.size)
		default:
			s.Structure.add(l.size)
			if l.answer.state == locked {
				s.Locked[l.answer.user]++
			}
		}
	})
}

// note tells the manifests of a file.
func (w *worker) note(j job, l look) {
	if !j.at.isMessage(j.name) {
		return
	}
	var err error
	if w.o.WriteManifest != nil && l.header != nil {
		err = w.list(j, l.size, l.header)
	}
	if w.o.Manifest != nil {
		err = errors.Join(err, w.compare(j, l.size, l.header))
	}
	w.listing.Lock()
	defer w.listing.Unlock()
	if w.trouble == nil {
		w.trouble = err
	}
}

func (w *worker) look(j job) look {
	f, err := j.at.dir.Open(j.stored.Name, unix.O_RDONLY|unix.O_NOATIME)
	if err != nil {
		if now, ok := w.renamed(j.at, j.name, j.stored, err); ok {
			j.stored = now
			return w.look(j)
		}
		return w.failed(j, err)
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return w.failed(j, err)
	}
	if before.Type() != unix.S_IFREG {
		return look{gone: true}
	}
	l := w.judge(j, f, before.Size)
	after, err := f.Stat()
	if err != nil {
		return w.failed(j, err)
	}
	l.changed = !before.Unchanged(&after)
	return l
}

// failed is the look at a file that the lower filesystem does not give.
func (w *worker) failed(j job, err error) look {
	if isGone(err) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
		return look{gone: true}
	}
	f := j.finding()
	f.Kind, f.Detail = Unreadable, err.Error()
	return look{bad: []Finding{f}}
}

// judge checks an open file. Entries with a damaged name are encrypted, as far as can be told.
func (w *worker) judge(j job, f *backing.File, size int64) look {
	l := look{size: size, answer: answer{state: opened}}
	if j.stored.Kind == names.Plain {
		l.plain = true
		if w.o.RefusePlain && j.at.user() != "" {
			bad := j.finding()
			bad.Kind, bad.Detail = PlainRefused, "a file that is not encrypted where plain = \"refuse\""
			l.bad = append(l.bad, bad)
		}
		return l
	}
	if j.stored.Kind == names.Unsupported || j.at.route.Scratch() {
		l.answer.state = refused // nothing else of it is judged (F1), or nobody but a running process can have its key (C15)
		return l
	}
	if w.glance {
		l.header = headerOf(f)
		return l
	}
	l.bad = w.xattrsOf(f.Fd(), j.finding())
	if size == 0 {
		return l
	}
	s := newScan(f, size, &l, j.finding())
	s.unfinished = !j.at.adrift && j.at.route.Class(j.name) == route.Message && j.at.route.Begun(j.name)
	s.run(w, j)
	if s.known {
		l.header = &s.hdr
	}
	return l
}

// headerOf reads the header of a file; nil if it has none.
func headerOf(f *backing.File) *format.Header {
	b := make([]byte, format.HeaderSize)
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil
	}
	h, err := format.ParseHeader(b)
	if err != nil {
		return nil
	}
	return &h
}
