package content

import (
	"fmt"
	"sync"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/parallel"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/seal"
)

// chunkBlocks is how many blocks go through one system call.
const chunkBlocks = 64

type chunk [chunkBlocks * format.BlockSize]byte

var (
	// Buffers are shared by all files: what they hold is either stored bytes or
	// plaintext that the next use overwrites.
	chunks  = sync.Pool{New: func() any { return new(chunk) }}
	scratch = sync.Pool{New: func() any { return new([format.BlockSize]byte) }}
)

// ReadAt reads plaintext at offset off into p. It returns fewer bytes than len(p)
// only at the end of the file, without an error. The error wraps
// format.ErrCorrupt for a block that does not open; the bytes before that block
// are valid then.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if off >= f.plain {
		return 0, nil
	}
	p = p[:min(int64(len(p)), f.plain-off)]
	if len(p) < 2*parallelBytes {
		return f.readRange(p, off)
	}
	return f.readHalves(p, off)
}

// parallelBytes is the least plaintext that is worth a goroutine of its own.
const parallelBytes = 128 << 10

// readHalves reads a long range with two processors.
func (f *File) readHalves(p []byte, off int64) (int, error) {
	middle, _ := format.Locate(off + int64(len(p)/2))
	half := int(middle.PlainStart() - off)
	var n [2]int
	var err [2]error
	parts := [2][]byte{p[:half], p[half:]}
	parallel.Ranges(2, 1, 2, func(i, _ int) {
		n[i], err[i] = f.readRange(parts[i], off+int64(i*half))
	})
	if err[0] != nil {
		return n[0], err[0]
	}
	return n[0] + n[1], err[1]
}

func (f *File) readRange(p []byte, off int64) (int, error) {
	buf := chunks.Get().(*chunk)
	defer chunks.Put(buf)
	done := 0
	for done < len(p) {
		n, err := f.readChunk(p[done:], off+int64(done), buf)
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// readChunk opens the blocks from offset off on that p needs and buf can hold.
func (f *File) readChunk(p []byte, off int64, buf *chunk) (int, error) {
	first, at := format.Locate(off)
	last, _ := format.Locate(off + int64(len(p)) - 1)
	last = min(last, first+chunkBlocks-1)
	want := min(int64(last-first+1)*format.BlockSize, f.stored-first.StoredStart())
	got, err := readFull(f.low, buf[:want], first.StoredStart())
	if err != nil {
		return 0, err
	}
	done := 0
	for no := first; no <= last; no++ {
		from := min(got, int(no-first)*format.BlockSize)
		to := min(got, from+format.BlockSize)
		n, err := f.openInto(p[done:], no, at, buf[from:to])
		if err != nil {
			return done, err
		}
		done += n
		at = 0
	}
	return done, nil
}

// openInto opens block no and copies its payload from at on into p.
func (f *File) openInto(p []byte, no format.BlockNo, at int, stored []byte) (int, error) {
	if c := no.Capacity(); at == 0 && len(p) >= c {
		out, err := f.openBlock(p[:0:c], no, stored)
		return len(out), err
	}
	tmp := scratch.Get().(*[format.BlockSize]byte)
	defer scratch.Put(tmp)
	out, err := f.openBlock(tmp[:0], no, stored)
	if err != nil {
		return 0, err
	}
	return copy(p, out[at:]), nil
}

// openBlock opens block no into dst, which is empty and has room for the whole
// block. It returns all payload that the file has in this block: an inner block
// that a crash left short reads as zeros behind its payload (C8).
func (f *File) openBlock(dst []byte, no format.BlockNo, stored []byte) ([]byte, error) {
	out, final, err := f.key.Open(dst, seal.Block{Header: &f.hdr, No: no}, stored)
	if err != nil {
		return nil, err
	}
	want := int(min(int64(no.Capacity()), f.plain-no.PlainStart()))
	isLast := no == f.lastNo()
	full := isLast || f.hdr.Layout == format.WriteOnce // no crash leaves these short
	if final != (isLast && f.final) || full && len(out) != want {
		return nil, fmt.Errorf("%w: block %d is not the one that ends the file", format.ErrCorrupt, no)
	}
	n := len(out)
	out = out[:want]
	clear(out[min(n, want):])
	return out, nil
}

// load returns the payload of block no in buf, from the cached tail if it is there.
func (f *File) load(no format.BlockNo, buf *[format.BlockSize]byte) ([]byte, error) {
	if len(f.tail) > 0 && no == f.tailNo {
		return buf[:copy(buf[:], f.tail)], nil
	}
	raw := scratch.Get().(*[format.BlockSize]byte)
	defer scratch.Put(raw)
	n, err := readFull(f.low, raw[:min(format.BlockSize, f.stored-no.StoredStart())], no.StoredStart())
	if err != nil {
		return nil, err
	}
	return f.openBlock(buf[:0], no, raw[:n])
}
