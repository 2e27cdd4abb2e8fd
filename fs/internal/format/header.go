package format

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Version is the format version that this package reads and writes.
const Version = 1

const (
	// HeaderSize is the size in bytes of the header inside block 0 (C3).
	HeaderSize = 56
	// KeyIDSize is the size in bytes of a content-key id.
	KeyIDSize = 16
	// SaltSize is the size in bytes of a file salt.
	SaltSize = 32
)

var magic = []byte("mcfs")

// Layout tells how the blocks of a file are arranged (C7, C8).
type Layout uint8

const (
	// WriteOnce is the layout whose plaintext size follows from the stored
	// size by arithmetic (C7).
	WriteOnce Layout = 1
	// Padded is the layout whose blocks all occupy 4096 bytes (C8).
	Padded Layout = 2
)

// Header is the decoded header of a stored file (C3).
type Header struct {
	Layout Layout
	KeyID  [KeyIDSize]byte
	Salt   [SaltSize]byte
}

// AppendTo appends the 56 bytes of the header to b and returns the result.
func (h *Header) AppendTo(b []byte) []byte {
	b = append(b, magic...)
	b = append(b, Version, byte(h.Layout), 0, 0)
	b = append(b, h.KeyID[:]...)
	return append(b, h.Salt[:]...)
}

// ParseHeader decodes the header at the beginning of block 0. The error wraps
// ErrUnsupported for another version and ErrCorrupt for anything else that is
// not a header.
func ParseHeader(b []byte) (Header, error) {
	var h Header
	if len(b) < len(magic)+1 || !bytes.Equal(b[:len(magic)], magic) {
		return h, fmt.Errorf("%w: no magic at its beginning", ErrCorrupt)
	}
	if b[4] != Version {
		return h, fmt.Errorf("%w: version %d", ErrUnsupported, b[4])
	}
	if len(b) < HeaderSize {
		return h, fmt.Errorf("%w: header has %d of %d bytes", ErrCorrupt, len(b), HeaderSize)
	}
	h.Layout = Layout(b[5])
	if h.Layout != WriteOnce && h.Layout != Padded {
		return h, fmt.Errorf("%w: unknown layout %d", ErrCorrupt, b[5])
	}
	if binary.BigEndian.Uint16(b[6:]) != 0 {
		return h, fmt.Errorf("%w: reserved header bytes are not zero", ErrCorrupt)
	}
	copy(h.KeyID[:], b[8:])
	copy(h.Salt[:], b[24:])
	return h, nil
}
