package format

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzParseHeader: what parses is what AppendTo writes, and every refusal is one of the two kinds.
func FuzzParseHeader(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil {
			if errors.Is(err, ErrCorrupt) == errors.Is(err, ErrUnsupported) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		if got := h.AppendTo(nil); !bytes.Equal(got, b[:HeaderSize]) {
			t.Fatalf("header %x is written as %x", b[:HeaderSize], got)
		}
	})
}

// FuzzParseField: a field that parses is within the block, and the arithmetic agrees with the bytes that are there.
func FuzzParseField(f *testing.F) {
	f.Fuzz(func(t *testing.T, first bool, tail uint16, b []byte) {
		no := BlockNo(1)
		if first {
			no = 0
		}
		// Long blocks are seldom found by chance: the seed's bytes are followed by zeros.
		b = append(bytes.Clone(b), make([]byte, int(tail)%(BlockSize+1))...)
		b = b[:min(len(b), BlockSize)]
		field, err := ParseField(no, b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		if MakeField(no, field.Len(), field.Final()) != field {
			t.Fatalf("field %04x is not what a writer makes", uint16(field))
		}
		end := field.StoredLen(no)
		if end > len(b) || !Zero(b[end:]) || end < len(b) && len(b) != BlockSize {
			t.Fatalf("record of %d bytes in block of %d", end, len(b))
		}
		if field.Final() {
			if plain, err := PlainSizeFinal(int64(end)); no == 0 && (err != nil || end < BlockSize && plain != int64(field.Len())) {
				t.Fatalf("stored size %d: %d, %v; field says %d", end, plain, err, field.Len())
			}
		}
	})
}
