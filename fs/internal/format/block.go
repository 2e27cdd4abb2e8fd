package format

import (
	"encoding/binary"
	"fmt"
)

const (
	// BlockSize is the size in bytes of a stored block (C3).
	BlockSize = 4096
	// NonceSize is the size in bytes of the nonce at the start of a record.
	NonceSize = 12
	// FieldSize is the size in bytes of the length field of a record.
	FieldSize = 2
	// TagSize is the size in bytes of the authentication tag of a record.
	TagSize = 16
	// Overhead is what a block record adds to its payload, in bytes.
	Overhead = NonceSize + FieldSize + TagSize
	// MaxStored is the size in bytes of the largest stored file (C14).
	MaxStored = 1 << 43
	// MaxTorn is how many blocks of zeros a torn append may leave (C9).
	MaxTorn = 4096

	fullCapacity  = BlockSize - Overhead
	firstCapacity = fullCapacity - HeaderSize
	finalBit      = 1 << 15
)

// BlockNo numbers the blocks of a file from 0.
type BlockNo int64

// Capacity returns the payload bytes that block no can hold: 4010 or 4066 (C4).
func (no BlockNo) Capacity() int {
	if no == 0 {
		return firstCapacity
	}
	return fullCapacity
}

// RecordOffset returns where the block record begins within block no: 56 in
// block 0, else 0 (C4).
func (no BlockNo) RecordOffset() int {
	if no == 0 {
		return HeaderSize
	}
	return 0
}

// PlainStart returns the plaintext offset of the first payload byte of block no.
func (no BlockNo) PlainStart() int64 {
	if no == 0 {
		return 0
	}
	return firstCapacity + int64(no-1)*fullCapacity
}

// StoredStart returns the stored offset at which block no begins.
func (no BlockNo) StoredStart() int64 { return int64(no) * BlockSize }

// Locate returns the block that holds the byte at plaintext offset off, and the
// place of that byte within the block's payload. off must not be negative.
func Locate(off int64) (BlockNo, int) {
	if off < firstCapacity {
		return 0, int(off)
	}
	off -= firstCapacity
	return BlockNo(off/fullCapacity) + 1, int(off % fullCapacity)
}

// Field is the two-byte field of a block record: final mark and payload length.
type Field uint16

// MakeField returns the field for a payload of n bytes. n must be 1 to the
// capacity of the block; anything else is a mistake of the caller and panics.
func MakeField(no BlockNo, n int, final bool) Field {
	if n < 1 || n > no.Capacity() {
		panic(fmt.Sprintf("format: payload of %d bytes in block %d", n, no))
	}
	f := Field(n)
	if final {
		f |= finalBit
	}
	return f
}

// Final reports whether the block is the final one of a write-once file (C7).
func (f Field) Final() bool { return f&finalBit != 0 }

// Len returns the payload length in bytes, not yet checked against a capacity.
func (f Field) Len() int { return int(f &^ finalBit) }

// CipherLen returns how many ciphertext bytes, without tag, the record holds (C5).
func (f Field) CipherLen(no BlockNo) int {
	if f.Final() {
		return f.Len()
	}
	return no.Capacity()
}

// StoredLen returns how many bytes of block no are occupied up to the end of the
// record, header included: 4096 unless the block is final.
func (f Field) StoredLen(no BlockNo) int {
	return no.RecordOffset() + Overhead + f.CipherLen(no)
}

// ParseField reads the field of block no, whose stored bytes are block (4096
// bytes, or fewer at the end of a file), and checks it against the capacity and
// against the bytes that are there (C4, C5, C10). The error wraps ErrCorrupt.
func ParseField(no BlockNo, block []byte) (Field, error) {
	at := no.RecordOffset() + NonceSize
	if len(block) < at+FieldSize+TagSize+1 {
		return 0, fmt.Errorf("%w: block %d has only %d bytes", ErrCorrupt, no, len(block))
	}
	f := Field(binary.BigEndian.Uint16(block[at:]))
	if f.Len() < 1 || f.Len() > no.Capacity() {
		return 0, fmt.Errorf("%w: block %d claims a payload of %d bytes", ErrCorrupt, no, f.Len())
	}
	end := f.StoredLen(no)
	if len(block) < end {
		return 0, fmt.Errorf("%w: block %d ends after %d of %d bytes", ErrCorrupt, no, len(block), end)
	}
	if len(block) > end && (len(block) != BlockSize || !Zero(block[end:])) {
		return 0, fmt.Errorf("%w: block %d has data behind its end", ErrCorrupt, no)
	}
	return f, nil
}

// Zero reports whether all bytes of b are zero.
func Zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
