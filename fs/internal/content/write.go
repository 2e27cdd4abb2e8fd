package content

import (
	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/parallel"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/seal"
)

// WriteAt writes p at plaintext offset off; what lies between the old end of the
// file and off becomes zero. It returns how many bytes of p are stored: fewer
// than len(p) only with an error, and whatever is not stored has changed no other
// byte of the file. Errors are those of the lower file and of the keys,
// ErrTooLarge, or wrap format.ErrCorrupt.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	if off+int64(len(p)) > maxPlain {
		return 0, ErrTooLarge
	}
	if err := f.prepare(); err != nil {
		return 0, err
	}
	if err := f.extend(off); err != nil {
		return 0, err
	}
	done := 0
	for done < len(p) {
		n := upToChunk(len(p)-done, off+int64(done))
		if err := f.store(p[done:done+n], off+int64(done)); err != nil {
			f.forget()
			return done, err
		}
		done += n
	}
	return done, nil
}

// prepare makes the file ready to be changed: a key for an empty one, the padded
// layout for one that was acknowledged in the write-once layout.
func (f *File) prepare() error {
	if f.key == nil {
		hdr, key, err := f.keys.New()
		if err != nil {
			return err
		}
		f.hdr, f.key = hdr, key
		f.final, f.fresh = hdr.Layout == format.WriteOnce, true
		return nil
	}
	if f.final && !f.fresh {
		return f.toPadded()
	}
	return f.catchUp()
}

// forget gives up the key of a file that stayed empty.
func (f *File) forget() {
	if f.plain == 0 {
		f.key, f.tail = nil, f.tail[:0]
	}
}

// upToChunk returns how many of n bytes at offset off fit into one chunk.
func upToChunk(n int, off int64) int {
	first, _ := format.Locate(off)
	// One block less: in the write-once layout the block before is rewritten too.
	end := (first + chunkBlocks - 1).PlainStart()
	return int(min(int64(n), end-off))
}

var zeros [chunkBlocks * format.BlockSize]byte

// extend fills the file with zeros up to plaintext size size (there are no holes).
// On error the file has its old size again.
func (f *File) extend(size int64) error {
	old := f.plain
	for f.plain < size {
		n := upToChunk(int(min(size-f.plain, int64(len(zeros)))), f.plain)
		if err := f.store(zeros[:n], f.plain); err != nil {
			if f.plain > old {
				_ = f.shrink(old) // the caller gets the first error
			}
			f.forget()
			return err
		}
	}
	return nil
}

// store seals and writes the blocks that the bytes p at off touch; off is at most
// the size of the file. All or nothing.
func (f *File) store(p []byte, off int64) error {
	w := f.plan(p, off)
	var edges [2]*[format.BlockSize]byte
	for i := range edges {
		edges[i] = scratch.Get().(*[format.BlockSize]byte)
		defer scratch.Put(edges[i])
	}
	payloads, err := f.merge(&w, edges)
	if err != nil {
		return err
	}
	buf := chunks.Get().(*chunk)
	defer chunks.Put(buf)
	total := f.sealAll(&w, payloads, buf)
	if n, err := f.low.WriteAt(buf[:total], w.first.StoredStart()); err != nil {
		f.undo(&w, n)
		return err
	}
	f.plain = w.newPlain
	f.stored = max(f.stored, w.first.StoredStart()+int64(total))
	if w.last == w.newLast {
		f.tail, f.tailNo = append(f.tail[:0], payloads[w.last-w.first]...), w.last
	} else if f.tailNo >= w.first && f.tailNo <= w.last {
		f.tail = f.tail[:0]
	}
	return nil
}

// Sealing is split where each part has parallelBlocks blocks, in up to sealers parts.
const (
	parallelBlocks = 16
	sealers        = 2
)

// sealAll seals the payloads of w into buf and returns how many bytes there are.
func (f *File) sealAll(w *write, payloads [][]byte, buf *chunk) int {
	var nonces [chunkBlocks * format.NonceSize]byte
	seal.Nonces(nonces[:len(payloads)*format.NonceSize])
	last := 0 // stored length of the last block
	parallel.Ranges(len(payloads), parallelBlocks, sealers, func(from, to int) {
		for i := from; i < to; i++ {
			no := w.first + format.BlockNo(i)
			b := seal.Block{Header: &f.hdr, No: no, Final: f.final && no == w.newLast}
			n := f.key.Seal(buf[i*format.BlockSize:][:format.BlockSize], b, nonces[i*format.NonceSize:], payloads[i])
			if i == len(payloads)-1 {
				last = n
			}
		}
	})
	return (len(payloads)-1)*format.BlockSize + last
}

// write is one call of store: which blocks it seals and what undoes it.
type write struct {
	p           []byte
	off         int64
	first, last format.BlockNo // sealed
	newPlain    int64
	newLast     format.BlockNo // last block of the file afterwards
	old         []kept
}

// kept is the payload of a block as it was before.
type kept struct {
	no      format.BlockNo
	payload []byte
}

func (f *File) plan(p []byte, off int64) write {
	w := write{p: p, off: off, newPlain: max(f.plain, off+int64(len(p)))}
	w.first, _ = format.Locate(off)
	w.last, _ = format.Locate(off + int64(len(p)) - 1)
	w.newLast, _ = format.Locate(w.newPlain - 1)
	if f.plain > 0 && f.final && f.lastNo() < w.first {
		w.first = f.lastNo() // it is full and no longer the final block
	}
	return w
}

// merge returns the payloads of the blocks of w: the bytes of w, put over what is
// there. Only the first and the last block can hold other bytes too; edges is their
// room.
func (f *File) merge(w *write, edges [2]*[format.BlockSize]byte) ([][]byte, error) {
	payloads := make([][]byte, w.last-w.first+1)
	for i := range payloads {
		edge := edges[0]
		if i > 0 {
			edge = edges[1]
		}
		var err error
		if payloads[i], err = f.mergeBlock(w, w.first+format.BlockNo(i), edge); err != nil {
			return nil, err
		}
	}
	return payloads, nil
}

func (f *File) mergeBlock(w *write, no format.BlockNo, buf *[format.BlockSize]byte) ([]byte, error) {
	start := no.PlainStart()
	size := int(min(int64(no.Capacity()), w.newPlain-start))
	from, to := int(max(0, w.off-start)), int(min(int64(size), w.off+int64(len(w.p))-start))
	whole := from == 0 && to == size
	if start < f.plain {
		old, err := f.load(no, buf)
		switch {
		case err == nil:
			w.old = append(w.old, kept{no, append([]byte(nil), old...)})
		case !whole: // a damaged block can be overwritten, but not mended in part
			return nil, err
		}
	}
	if whole {
		return w.p[start-w.off:][:size], nil
	}
	if from < to {
		copy(buf[from:to], w.p[max(0, start-w.off):])
	}
	return buf[:size], nil
}

// undo puts back what a failed write of n bytes may have touched.
func (f *File) undo(w *write, n int) {
	f.tail = f.tail[:0]
	if n > 0 {
		for _, k := range w.old {
			_ = f.put(k.no, k.payload, f.final && k.no == f.lastNo())
		}
	}
	_ = f.low.Truncate(f.stored)
}

// put seals one block and writes it. Where a final block ends before the stored file
// does, zeros follow it (C10).
func (f *File) put(no format.BlockNo, payload []byte, final bool) error {
	buf := scratch.Get().(*[format.BlockSize]byte)
	defer scratch.Put(buf)
	var nonce [format.NonceSize]byte
	seal.Nonces(nonce[:])
	n := f.key.Seal(buf[:], seal.Block{Header: &f.hdr, No: no, Final: final}, nonce[:], payload)
	if end := int(min(format.BlockSize, f.stored-no.StoredStart())); n < end {
		clear(buf[n:end])
		n = end
	}
	_, err := f.low.WriteAt(buf[:n], no.StoredStart())
	return err
}
