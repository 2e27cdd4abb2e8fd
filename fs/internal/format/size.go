package format

import "fmt"

// Blocks returns how many blocks a stored file of the given size has, the last
// possibly short.
func Blocks(stored int64) BlockNo {
	return BlockNo((stored + BlockSize - 1) / BlockSize)
}

// Aligned reports whether the stored size leaves layout and plaintext size
// open, so that header and last block have to be read (C9).
func Aligned(stored int64) bool { return stored%BlockSize == 0 }

// PlainSizeFinal returns the plaintext size of a stored file whose last block is
// final and ends with the file, which is so for every stored size that is not a
// multiple of 4096 (C7). The error wraps ErrCorrupt.
func PlainSizeFinal(stored int64) (int64, error) {
	if stored > MaxStored {
		return 0, fmt.Errorf("%w: stored size %d exceeds the limit", ErrCorrupt, stored)
	}
	last := Blocks(stored) - 1
	payload := stored - last.StoredStart() - int64(last.RecordOffset()) - Overhead
	if payload < 1 {
		return 0, fmt.Errorf("%w: stored size %d leaves no payload in its last block", ErrCorrupt, stored)
	}
	return last.PlainStart() + payload, nil
}

// PlainSize returns the plaintext size of a file of n blocks (n ≥ 1) whose last
// block has the field f (C8, C9).
func PlainSize(n BlockNo, f Field) int64 {
	return (n - 1).PlainStart() + int64(f.Len())
}

// StoredSize returns the size of the stored file for plain bytes of plaintext.
func StoredSize(plain int64, l Layout) int64 {
	if plain == 0 {
		return 0
	}
	last, at := Locate(plain - 1)
	if l == Padded {
		return (last + 1).StoredStart()
	}
	return last.StoredStart() + int64(last.RecordOffset()+Overhead+at+1)
}
