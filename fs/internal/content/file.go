// Package content is the random-access plaintext view of one stored file: read,
// write, truncate and sync over the blocks of FORMAT.md section 3. It knows
// nothing of names, users or FUSE.
package content

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/seal"
)

// Lower is the stored file. ReadAt returns io.EOF with fewer bytes at the end of
// the file; WriteAt writes all or says how many bytes it wrote.
type Lower interface {
	io.ReaderAt
	io.WriterAt
	Truncate(stored int64) error
	Sync(dataOnly bool) error
}

// Keys gives a file its keys. Its methods are called with the file locked and
// must not call back into it.
type Keys interface {
	// New returns the header and key for the first content of an empty file. It
	// returns only when the content key is durable (FORMAT.md K11).
	New() (format.Header, *seal.FileKey, error)
	// Open returns the key of a file with header h.
	Open(h *format.Header) (*seal.FileKey, error)
}

var (
	// ErrTooLarge says that a file would grow beyond FORMAT.md C14.
	ErrTooLarge = errors.New("file is too large")
	// ErrUnfinished wraps format.ErrCorrupt: a write-once file has no final block. It was
	// cut, or its writer was killed while writing (C7).
	ErrUnfinished = fmt.Errorf("%w: write-once file has lost its end", format.ErrCorrupt)
)

// maxPlain is the plaintext size of the largest padded file (C14).
const maxPlain = format.MaxStored / format.BlockSize * (format.BlockSize - format.Overhead - 1)

// File is the content of one stored file, shared by all its open handles. It is
// safe for concurrent use: readers share, writers exclude.
type File struct {
	low  Lower
	keys Keys

	mu     sync.RWMutex
	key    *seal.FileKey // nil while the file is empty
	hdr    format.Header // valid with key
	plain  int64         // plaintext size
	stored int64         // stored size
	// final says that the last block is a final one (C7, C10).
	final bool
	// fresh says that no fsync has acknowledged anything of the content, so that
	// a write-once file may still change in its layout (C10).
	fresh bool
	// unsynced says that a step of C10 is not known to be durable.
	unsynced bool
	// tail is the payload of block tailNo as it is stored, or empty: an append
	// needs no read.
	tail   []byte
	tailNo format.BlockNo
}

// Open takes up the stored file low, whose stored size is given. Errors wrap
// format.ErrCorrupt or format.ErrUnsupported, or are those of keys and low.
func Open(low Lower, stored int64, keys Keys) (*File, error) {
	f := &File{low: low, keys: keys, fresh: stored == 0}
	if stored == 0 {
		return f, nil
	}
	s, err := Probe(low, stored)
	if err != nil {
		return nil, err
	}
	if s.Plain == 0 {
		return f, nil // nothing but torn appends (C9)
	}
	f.hdr, f.plain, f.stored, f.final = s.Header, s.Plain, s.Stored, s.Final
	f.key, err = keys.Open(&f.hdr)
	return f, err
}

// Shape is what header and last block tell of a stored file without any key.
type Shape struct {
	Header format.Header
	Plain  int64 // plaintext size in bytes
	Stored int64 // stored size in bytes without torn appends (C9)
	Final  bool  // the last block is final
}

// Probe reads the header and, where the stored size leaves it open, the last block
// (C7 to C9). For a stored size above 0 whose blocks are all zero it returns the
// zero Shape. The error wraps format.ErrCorrupt or format.ErrUnsupported, or is low's.
func Probe(low io.ReaderAt, stored int64) (Shape, error) {
	s := Shape{Stored: stored, Final: true}
	if stored > format.MaxStored {
		return Shape{}, fmt.Errorf("%w: stored size %d exceeds the limit", format.ErrCorrupt, stored)
	}
	if format.Aligned(stored) {
		return probeAligned(low, stored)
	}
	// The usual message is read as a whole here: one access to a cold disk, and what
	// follows finds it in memory.
	buf := chunks.Get().(*chunk)
	defer chunks.Put(buf)
	head, err := readFull(low, buf[:min(stored, readAhead)], 0)
	if err != nil {
		return Shape{}, err
	}
	if s.Header, err = format.ParseHeader(buf[:head]); err != nil {
		return Shape{}, err
	}
	if s.Plain, err = format.PlainSizeFinal(stored); err != nil {
		return Shape{}, err
	}
	last := (format.Blocks(stored) - 1)
	switch {
	case int64(head) == stored:
		err = endsFile(last, buf[last.StoredStart():head])
	case s.Header.Layout == format.Padded: // rare: C10 was cut short
		if head, err = readFull(low, buf[:format.BlockSize], last.StoredStart()); err == nil {
			err = endsFile(last, buf[:head])
		}
	}
	return s, err
}

// endsFile reports whether the stored block no is one that ends a file between two
// multiples of 4096: a final one.
func endsFile(no format.BlockNo, block []byte) error {
	f, err := format.ParseField(no, block)
	if err == nil && !f.Final() {
		err = fmt.Errorf("%w: it ends within block %d", format.ErrCorrupt, no)
	}
	return err
}

// readAhead is how much of a file is read when it is opened, in bytes.
const readAhead = 64 << 10

func probeAligned(low io.ReaderAt, stored int64) (Shape, error) {
	var s Shape
	var buf [format.BlockSize]byte
	n, last, err := lastBlock(low, stored, buf[:])
	if err != nil || n == 0 {
		return s, err
	}
	head := last
	if n > 1 {
		var first [format.HeaderSize]byte
		if _, err := readFull(low, first[:], 0); err != nil {
			return s, err
		}
		head = first[:]
	}
	if s.Header, err = format.ParseHeader(head); err != nil {
		return s, err
	}
	f, err := format.ParseField(n-1, last)
	if err != nil {
		return s, err
	}
	if s.Header.Layout == format.WriteOnce && !f.Final() {
		return s, ErrUnfinished
	}
	s.Plain, s.Final = format.PlainSize(n, f), f.Final()
	s.Stored = n.StoredStart()
	return s, nil
}

// lastBlock reads the last block that is not a torn append into buf and returns
// how many blocks there are up to and with it (C9).
func lastBlock(low io.ReaderAt, stored int64, buf []byte) (format.BlockNo, []byte, error) {
	end := format.Blocks(stored)
	for n := end; n > 0; n-- {
		if end-n > format.MaxTorn {
			return 0, nil, fmt.Errorf("%w: more than %d blocks of zeros at its end", format.ErrCorrupt, format.MaxTorn)
		}
		got, err := readFull(low, buf, (n - 1).StoredStart())
		if err != nil {
			return 0, nil, err
		}
		if got < format.BlockSize || !format.Zero(buf[:got]) {
			return n, buf[:got], nil
		}
	}
	return 0, nil, nil
}

// readFull reads up to len(p) bytes; the end of the file is not an error.
func readFull(low io.ReaderAt, p []byte, off int64) (int, error) {
	n, err := low.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// Size returns the plaintext size in bytes.
func (f *File) Size() int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.plain
}

// Length is Size, for whom content may be plain, too. There is no error.
func (f *File) Length() (int64, error) { return f.Size(), nil }

// Header returns the header, and false while the file is empty.
func (f *File) Header() (format.Header, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.hdr, f.key != nil
}

// Sync makes everything that was written before durable (fsync(2), or
// fdatasync(2) with dataOnly). From then on the file's last block is never
// rewritten in a way that a power cut could tear (C10).
func (f *File) Sync(dataOnly bool) error {
	f.settle()
	return f.low.Sync(dataOnly)
}

func (f *File) settle() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.key != nil {
		f.fresh = false
	}
}

// lastNo returns the number of the last block; the file must not be empty.
func (f *File) lastNo() format.BlockNo {
	no, _ := format.Locate(f.plain - 1)
	return no
}
