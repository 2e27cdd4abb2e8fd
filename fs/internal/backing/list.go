package backing

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/parallel"
)

// Entry is one entry of a stored directory as a listing tells it.
type Entry struct {
	Name string
	Ino  uint64 // inode number
	Next uint64 // offset of the entry after it
	Type uint32 // S_IFMT bits, 0 if the filesystem does not say
}

// listBuffer is how many bytes of entries are read at once, maxDirent how many one
// takes at most.
const (
	listBuffer = 64 << 10
	maxDirent  = 280
)

// Lister reads a directory in the order of the lower filesystem, whose offsets
// stay valid while entries come and go. From the second batch of a large directory on, one
// is read and another prepared while the caller is busy with the one before. It is not
// safe for concurrent use.
type Lister struct {
	dir     *Dir
	prepare func(entries []Entry, of int)
	batches [Batches]batch // a ring
	now     int            // the one of them that is listed
	ahead   int            // so many after it are under way
	at      int
	pos     uint64 // offset of the entry at at
	eof     bool
	through bool // a batch was listed to its end: the caller wants them all, most likely
}

// Batches is how many batches of entries a Lister holds.
const Batches = 3

// batch is what one call of the kernel returned.
type batch struct {
	buf     []byte
	entries []Entry
	err     error
	size    int           // of what is in buf: 0 at the end of the directory, and with err
	read    chan struct{} // closed when the call has returned
	ready   func()        // returns when it is prepared
}

// NewLister lists d, which must be a descriptor that nobody else lists; it takes
// over the caller's count.
func NewLister(d *Dir) *Lister { return &Lister{dir: d} }

// Prepare has f called with each batch of entries before the first of them is listed,
// perhaps in other goroutines while others are. of, below Batches, tells them apart: what
// was prepared for one is needed until f is called with the same number again. It must be
// set before anything is listed.
func (l *Lister) Prepare(f func(entries []Entry, of int)) { l.prepare = f }

// Close releases the directory.
func (l *Lister) Close() {
	defer l.dir.Release()
	l.await()
}

// Dir returns the directory that is listed, valid until Close.
func (l *Lister) Dir() *Dir { return l.dir }

// Seek continues the listing at offset off, which is 0 or the Next of an entry.
func (l *Lister) Seek(off uint64) error {
	if off == l.pos && off != 0 {
		return nil
	}
	b := &l.batches[l.now]
	for i, e := range b.entries[:l.at] { // the kernel's buffer was smaller than ours
		if e.Next == off {
			l.at, l.pos = i+1, off
			return nil
		}
	}
	l.await()
	b.entries, l.at, l.pos, l.eof, l.through = b.entries[:0], 0, off, false, false
	return again("lseek", func() error {
		_, err := unix.Seek(l.dir.fd, int64(off), 0)
		return err
	})
}

// Peek returns the next entry without moving on; ok is false at the end.
func (l *Lister) Peek() (e Entry, ok bool, err error) {
	if l.at == len(l.batches[l.now].entries) && !l.eof {
		if err := l.next(); err != nil {
			return Entry{}, false, err
		}
	}
	if b := &l.batches[l.now]; l.at < len(b.entries) {
		return b.entries[l.at], true, nil
	}
	return Entry{}, false, nil
}

// Batch returns the entries that were read together with the one that Peek returned, its
// place among them, and which batch that is for Prepare. The caller must not change them.
func (l *Lister) Batch() (entries []Entry, at, of int) {
	return l.batches[l.now].entries, l.at, l.now
}

// Skip moves behind the entry that Peek returned.
func (l *Lister) Skip() {
	l.pos = l.batches[l.now].entries[l.at].Next
	l.at++
}

// next goes to the next batch, and has those after it read if there seem to be any.
func (l *Lister) next() error {
	l.at = 0
	if l.ahead == 0 {
		l.fill(l.now, nil)
	} else {
		l.now = (l.now + 1) % Batches
		l.ahead--
		l.batches[l.now].ready()
	}
	b := &l.batches[l.now]
	l.eof = b.err == nil && b.size == 0
	for l.through && b.size > listBuffer-maxDirent && l.ahead < Batches-1 {
		before := &l.batches[(l.now+l.ahead)%Batches]
		l.ahead++
		of := (l.now + l.ahead) % Batches
		l.batches[of].read = make(chan struct{})
		l.batches[of].ready = parallel.Go(func() { l.fill(of, before) })
	}
	l.through = true
	return b.err
}

// await ends what is under way, and forgets it.
func (l *Lister) await() {
	for ; l.ahead > 0; l.ahead-- {
		defer l.batches[(l.now+l.ahead)%Batches].ready() // all of them, even if one panics
	}
}

// fill reads and prepares batch of, which follows the one before; that is nil if none is
// under way.
func (l *Lister) fill(of int, before *batch) {
	b := &l.batches[of]
	l.read(b, before)
	b.entries = b.entries[:0]
	for rest := b.buf[:b.size]; len(rest) > 0; {
		size := binary.NativeEndian.Uint16(rest[16:])
		b.entries = append(b.entries, parseDirent(rest[:size]))
		rest = rest[size:]
	}
	if l.prepare != nil {
		l.prepare(b.entries, of)
	}
}

// read makes the call of the kernel for b when that for the batch before has returned.
func (l *Lister) read(b, before *batch) {
	b.size, b.err = 0, nil
	if b.buf == nil {
		b.buf = make([]byte, listBuffer)
	}
	if before != nil {
		defer close(b.read)
		if before.read != nil {
			<-before.read
		}
		if before.size == 0 {
			b.err = before.err
			return
		}
	}
	b.err = again("getdents64", func() (err error) {
		if b.size, err = unix.Getdents(l.dir.fd, b.buf); err == unix.ENOENT {
			err = nil // removed since it was opened: it ends there, as for readdir(3)
		}
		return err
	})
	b.size = max(b.size, 0)
}

// parseDirent decodes a struct linux_dirent64 (getdents(2)).
func parseDirent(b []byte) Entry {
	const nameAt = 19
	end := nameAt
	for end < len(b) && b[end] != 0 {
		end++
	}
	return Entry{
		Name: string(b[nameAt:end]),
		Ino:  binary.NativeEndian.Uint64(b),
		Next: binary.NativeEndian.Uint64(b[8:]),
		Type: uint32(b[18]) << 12,
	}
}
