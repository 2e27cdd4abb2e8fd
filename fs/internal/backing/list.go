package backing

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Entry is one entry of a stored directory as a listing tells it.
type Entry struct {
	Name string
	Ino  uint64 // inode number
	Next uint64 // offset of the entry after it
	Type uint32 // S_IFMT bits, 0 if the filesystem does not say
}

const listBuffer = 64 << 10

// Lister reads a directory in the order of the lower filesystem, whose offsets
// stay valid while entries come and go. It is not safe for concurrent use.
type Lister struct {
	dir   *Dir
	buf   []byte
	queue []Entry
	at    int
	fills uint64
	pos   uint64 // offset of queue[at]
	eof   bool
}

// NewLister lists d, which must be a descriptor that nobody else lists; it takes
// over the caller's count.
func NewLister(d *Dir) *Lister { return &Lister{dir: d} }

// Close releases the directory.
func (l *Lister) Close() { l.dir.Release() }

// Dir returns the directory that is listed, valid until Close.
func (l *Lister) Dir() *Dir { return l.dir }

// Seek continues the listing at offset off, which is 0 or the Next of an entry.
func (l *Lister) Seek(off uint64) error {
	if off == l.pos && off != 0 {
		return nil
	}
	for i, e := range l.queue[:l.at] { // the kernel's buffer was smaller than ours
		if e.Next == off {
			l.at, l.pos = i+1, off
			return nil
		}
	}
	l.queue, l.at, l.pos, l.eof = l.queue[:0], 0, off, false
	return again("lseek", func() error {
		_, err := unix.Seek(l.dir.fd, int64(off), 0)
		return err
	})
}

// Peek returns the next entry without moving on; ok is false at the end.
func (l *Lister) Peek() (e Entry, ok bool, err error) {
	if l.at == len(l.queue) && !l.eof {
		if err := l.fill(); err != nil {
			return Entry{}, false, err
		}
	}
	if l.at == len(l.queue) {
		return Entry{}, false, nil
	}
	return l.queue[l.at], true, nil
}

// Queue returns the entries that were read from the kernel together with the one
// that Peek returned, its place among them, and a number that is another for each such
// batch. The caller must not change them.
func (l *Lister) Queue() (batch []Entry, at int, number uint64) { return l.queue, l.at, l.fills }

// Skip moves behind the entry that Peek returned.
func (l *Lister) Skip() {
	l.pos = l.queue[l.at].Next
	l.at++
}

func (l *Lister) fill() error {
	if l.buf == nil {
		l.buf = make([]byte, listBuffer)
	}
	var n int
	err := again("getdents64", func() (err error) {
		n, err = unix.Getdents(l.dir.fd, l.buf)
		return err
	})
	if err != nil {
		return err
	}
	l.queue, l.at, l.eof = l.queue[:0], 0, n == 0
	l.fills++
	for b := l.buf[:n]; len(b) > 0; {
		size := binary.NativeEndian.Uint16(b[16:])
		l.queue = append(l.queue, parseDirent(b[:size]))
		b = b[size:]
	}
	return nil
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
