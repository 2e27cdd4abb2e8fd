package check

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/seal"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

const (
	// chunkBlocks is how many blocks are read at once.
	chunkBlocks = 64
	// maxSpans is how many damaged ranges of one file are told apart.
	maxSpans = 16
)

// Reasons why a block is damaged.
const (
	notAuthentic = "does not authenticate"
	badField     = "has a length that cannot be"
	cutOff       = "is cut off"
	falseEnd     = "claims to be the last"
	allZero      = "consists of zeros"
)

// span is a range of blocks that are damaged in the same way.
type span struct {
	first, last format.BlockNo
	why         string
}

// scan reads the blocks of one file from the first to the last, as C3 to C10 say.
type scan struct {
	low        *backing.File
	size       int64
	l          *look
	f          Finding // what all findings about the file begin with
	unfinished bool    // a lost end is no damage

	hdr   format.Header
	known bool           // hdr was read, and is good
	key   *seal.FileKey  // nil: only the structure is judged
	end   format.BlockNo // blocks from here on, up to the current one, are zeros
	last  block          // the one before end, if any
	spans []span
	more  int // spans beyond maxSpans
}

// block is what was learnt of a block.
type block struct {
	no         format.BlockNo
	known      bool // it was read and is not damaged
	final, cut bool
}

func newScan(low *backing.File, size int64, l *look, f Finding) *scan {
	return &scan{low: low, size: size, l: l, f: f, last: block{no: -1}}
}

// run checks the file and adds what it finds to the look.
func (s *scan) run(w *worker, j job) {
	if s.size > format.MaxStored {
		s.found(HeaderDamaged, fmt.Sprintf("its size of %d bytes exceeds the limit", s.size))
		return
	}
	if !s.blocks(w, j) {
		return
	}
	s.judgeEnd()
	for _, b := range s.spans {
		f := s.f
		f.Kind, f.Blocks = BlockDamaged, []int64{int64(b.first), int64(b.last)}
		if f.Detail = fmt.Sprintf("block %d %s", b.first, b.why); b.last > b.first {
			f.Detail = fmt.Sprintf("blocks %d to %d: each %s", b.first, b.last, b.why)
		}
		s.l.bad = append(s.l.bad, f)
	}
	if s.more > 0 {
		s.found(BlockDamaged, fmt.Sprintf("%d further ranges of blocks are damaged", s.more))
	}
}

// blocks goes through all blocks; false means that the rest cannot be judged.
func (s *scan) blocks(w *worker, j job) bool {
	n := format.Blocks(s.size)
	for first := format.BlockNo(0); first < n && w.ctx.Err() == nil; first += chunkBlocks {
		want := min(s.size-first.StoredStart(), int64(len(w.buf)))
		got, err := s.low.ReadAt(w.buf[:want], first.StoredStart())
		w.tally.bytes.Add(int64(got))
		if err != nil && !errors.Is(err, io.EOF) {
			s.found(Unreadable, err.Error())
			return false
		}
		for at := 0; at < got; at += format.BlockSize {
			no := first + format.BlockNo(at/format.BlockSize)
			if !s.block(w, j, no, w.buf[at:min(got, at+format.BlockSize)]) {
				return false
			}
		}
	}
	return true
}

// block judges one block; false means that the rest cannot be judged.
func (s *scan) block(w *worker, j job, no format.BlockNo, b []byte) bool {
	if len(b) == format.BlockSize && format.Zero(b) {
		return true // torn appends, if nothing else comes (C9)
	}
	if s.last.no < 0 && !s.header(w, j, no, b) {
		return false
	}
	if s.last.known && s.last.final {
		s.bad(s.last.no, s.last.no, falseEnd)
	}
	if s.end < no {
		s.bad(s.end, no-1, allZero)
	}
	s.end = no + 1
	s.last = block{no: no}
	f, err := format.ParseField(no, b)
	if err != nil {
		switch short := cut(no, b); {
		case short && s.hdr.Layout == format.WriteOnce:
			s.last.cut = true
		case short:
			s.bad(no, no, cutOff)
		default:
			s.bad(no, no, badField)
		}
		return true
	}
	if s.key != nil {
		if _, _, err := s.key.Open(w.out[:0], seal.Block{Header: &s.hdr, No: no}, b); err != nil {
			s.bad(no, no, notAuthentic)
			return true
		}
	}
	s.last.known, s.last.final = true, f.Final()
	return true
}

// cut reports whether b is a good block less its end.
func cut(no format.BlockNo, b []byte) bool {
	at := no.RecordOffset() + format.NonceSize
	if len(b) == format.BlockSize {
		return false
	}
	if len(b) < at+format.FieldSize {
		return true
	}
	f := format.Field(binary.BigEndian.Uint16(b[at:]))
	return f.Len() >= 1 && f.Len() <= no.Capacity() && len(b) < f.StoredLen(no)
}

// header judges the header and finds the key. b is the first block that does not consist of zeros.
func (s *scan) header(w *worker, j job, no format.BlockNo, b []byte) bool {
	var err error
	s.hdr, err = format.ParseHeader(b)
	switch {
	case no > 0:
		s.found(HeaderDamaged, "its first block consists of zeros")
	case errors.Is(err, format.ErrUnsupported):
		s.found(ContentUnsupported, err.Error())
	case err != nil && headerCut(b):
		s.lostEnd()
	case err != nil:
		s.found(HeaderDamaged, err.Error())
	default:
		s.known = true
		return s.findKey(w, j)
	}
	s.l.answer = answer{state: refused}
	return false
}

// headerCut reports whether b begins a write-once file and ends within its header.
func headerCut(b []byte) bool {
	whole := (&format.Header{Layout: format.WriteOnce}).AppendTo(nil)
	copy(whole, b)
	h, err := format.ParseHeader(whole)
	return len(b) < format.HeaderSize && err == nil && h.Layout == format.WriteOnce
}

// findKey looks for the key of the file; without one the blocks are judged as far as that goes.
func (s *scan) findKey(w *worker, j job) bool {
	a := w.keyFor(j.at, secret.ID(s.hdr.KeyID))
	if a.state == opened {
		var err error
		if s.key, err = seal.NewFileKey(a.key, &s.hdr); err != nil {
			a = answer{state: locked} // wiped meanwhile
		}
	}
	if a.state == refused {
		s.found(a.kind, a.detail)
	}
	s.l.answer = a
	return true
}

// judgeEnd judges the last block that does not consist of zeros.
func (s *scan) judgeEnd() {
	if s.last.cut || s.last.known && !s.last.final && s.hdr.Layout == format.WriteOnce {
		s.lostEnd()
	}
}

func (s *scan) lostEnd() {
	if s.unfinished {
		s.found(Unfinished, "a message that is being delivered, or whose delivery was broken off")
		return
	}
	s.found(EndLost, "the file has lost its end, or was never finished")
}

func (s *scan) found(k Kind, detail string) {
	f := s.f
	f.Kind, f.Detail = k, detail
	s.l.bad = append(s.l.bad, f)
}

// bad adds a range of damaged blocks, or lengthens the one before.
func (s *scan) bad(first, last format.BlockNo, why string) {
	if n := len(s.spans); n > 0 && s.more == 0 && s.spans[n-1].last == first-1 && s.spans[n-1].why == why {
		s.spans[n-1].last = last
		return
	}
	if len(s.spans) == maxSpans {
		s.more++
		return
	}
	s.spans = append(s.spans, span{first, last, why})
}
