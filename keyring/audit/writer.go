package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// writer is one append, under the lock of the host's chain.
type writer struct {
	dir, head *os.File
	host      string
	key       *secret.Key

	file    *os.File   // the last segment; nil before the first
	at      position   // the end of the chain
	durable position   // what the head says
	notes   []Event    // what was found while looking for the end
	placed  []position // of each event that was written
}

func (w *writer) close() {
	if w.file != nil {
		_ = w.file.Close()
	}
}

// find looks for the end of the chain. known is where this process saw it last; what others have added since is read,
// and the head saves reading the whole segment at the start of a process.
func (w *writer) find(known position) error {
	var err error
	if w.durable, err = readHead(w.head, w.host, w.key); err != nil {
		return err
	}
	from := w.durable
	if known.seq > from.seq {
		from = known
	}
	all, _, _, err := segments(w.dir)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(s segment) bool { return s.host != w.host })
	// A segment in which nothing was written before a crash says nothing of the chain: the one before it does.
	for i := len(all) - 1; i >= 0 && w.at.seq == 0; i-- {
		if err := w.findIn(all[i], from); err != nil {
			return err
		}
	}
	if w.at.seq < from.seq {
		w.notes = append(w.notes, Event{What: CutShort, Detail: fmt.Sprintf("line %d was written before, and line %d is the last one now", from.seq, w.at.seq)})
		w.at.seq = from.seq // no number is used twice
	}
	return nil
}

// findIn looks for the end of the chain in a segment. The first one that it gets stays open to be written to.
func (w *writer) findIn(s segment, from position) error {
	f, err := openFile(w.dir, s.name(), unix.O_RDWR|unix.O_APPEND)
	if err != nil {
		return err
	}
	start := position{month: s.month}
	if from.month == s.month {
		holds, err := from.holds(f)
		if err != nil {
			return errors.Join(err, f.Close())
		}
		if holds {
			start = from
		}
	}
	if w.file == nil {
		w.file = f
		w.at, err = w.scan(f, start)
		return err
	}
	at, err := w.scan(f, start)
	w.at.seq, w.at.mac = at.seq, at.mac
	return errors.Join(err, f.Close())
}

// scan reads a segment from a place in the chain to its end, and removes what an interrupted write left there.
func (w *writer) scan(f *os.File, at position) (position, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return at, err
	}
	r := newLines(io.NewSectionReader(f, at.offset, size-at.offset))
	for {
		b, n, err := r.next()
		if errors.Is(err, io.EOF) {
			return at, w.dropTorn(f, at.offset, size)
		}
		if err != nil {
			return at, err
		}
		at.offset += n
		l, err := parseLine(b, w.host, w.key)
		switch {
		case err == nil && l.Seq > at.seq: // otherwise somebody has moved it
			at.seq, at.mac = l.Seq, l.mac
		case err != nil && !errors.Is(err, errLine): // Verify reports those; the chain goes on after them
			return at, fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
}

// dropTorn removes what stands after the last newline of a segment.
func (w *writer) dropTorn(f *os.File, end, size int64) error {
	if end == size {
		return nil
	}
	if err := f.Truncate(end); err != nil {
		return err
	}
	w.notes = append(w.notes, Event{What: Torn, Detail: fmt.Sprintf("%d bytes of an interrupted write were removed", size-end)})
	return nil
}

// write appends the notes and the events.
func (w *writer) write(added []Event, now time.Time) error {
	events := slices.Concat(w.notes, added)
	month := max(monthOf(now), w.at.month)
	if w.file == nil || w.at.month != month {
		if err := w.begin(month); err != nil {
			return err
		}
	}
	if w.at.offset == 0 {
		events = slices.Insert(events, 0, Event{What: Begin})
	}
	sync := len(added) != 1 || added[0].synced() || len(events) > 1
	return w.put(events, now, sync)
}

// begin opens the segment of a new month. What it will refer to is durable before.
func (w *writer) begin(month string) error {
	if w.file != nil {
		if err := errors.Join(w.file.Sync(), w.file.Close()); err != nil {
			return err
		}
		w.file = nil
	}
	f, err := openFile(w.dir, segment{month, w.host}.name(), unix.O_RDWR|unix.O_APPEND|unix.O_CREAT)
	if err != nil {
		return err
	}
	w.file = f
	w.at.month, w.at.offset = month, 0 // find would have found it if it were there
	return w.dir.Sync()
}

// put writes lines in one call; of a failed write nothing is left.
func (w *writer) put(events []Event, now time.Time, sync bool) error {
	at, size := w.at, w.at.offset
	var b []byte
	for _, e := range events {
		if e.Time.IsZero() {
			e.Time = now
		}
		l := newLine(e)
		l.Seq, l.Prev = at.seq+1, at.mac.String()
		if e.What == Begin {
			l.Log, l.Version = logName, version
		}
		sealed, err := l.seal(w.host, w.key)
		if err != nil {
			return err
		}
		b = append(b, sealed...)
		at = position{month: at.month, offset: at.offset + int64(len(sealed)), seq: l.Seq, mac: l.mac}
		w.placed = append(w.placed, at)
	}
	if _, err := w.file.Write(b); err != nil {
		return errors.Join(err, w.file.Truncate(size))
	}
	w.at = at
	if !sync && at.seq-w.durable.seq < headEvery {
		return nil
	}
	if err := w.file.Sync(); err != nil {
		return err
	}
	return w.moveHead()
}

// moveHead says in the head how far the chain is durable. It needs no fsync of its own: an old head is never wrong.
func (w *writer) moveHead() error {
	b, err := encodeHead(w.at, w.host, w.key)
	if err != nil {
		return err
	}
	if _, err := w.head.WriteAt(b, 0); err != nil {
		return err
	}
	w.durable = w.at
	return nil
}
