package format

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
)

// edges are plaintext sizes around every block edge of the first blocks, and some far away.
func edges() []int64 {
	var out []int64
	for no := BlockNo(0); no < 6; no++ {
		for d := int64(-3); d <= 3; d++ {
			if at := no.PlainStart() + d; at >= 0 {
				out = append(out, at)
			}
		}
	}
	for _, at := range []int64{BlockNo(1 << 20).PlainStart(), BlockNo(1 << 30).PlainStart(), BlockNo(MaxStored/BlockSize - 1).PlainStart()} {
		out = append(out, at-1, at, at+1)
	}
	return out
}

func TestWorkedSizes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ plain, writeOnce, padded int64 }{ // the table under C14
		{0, 0, 0}, {1, 87, 4096}, {4010, 4096, 4096}, {4011, 4127, 8192}, {5000, 5116, 8192},
	} {
		if got := StoredSize(tt.plain, WriteOnce); got != tt.writeOnce {
			t.Errorf("write-once, %d bytes: stored %d, want %d", tt.plain, got, tt.writeOnce)
		}
		if got := StoredSize(tt.plain, Padded); got != tt.padded {
			t.Errorf("padded, %d bytes: stored %d, want %d", tt.plain, got, tt.padded)
		}
	}
}

// TestSizesAgree checks C7 and C8 against each other: what a size becomes when it is stored is what is read from it.
func TestSizesAgree(t *testing.T) {
	t.Parallel()
	sizes := edges()
	for i := int64(1); i < 3*BlockSize; i++ {
		sizes = append(sizes, i)
	}
	for _, plain := range sizes {
		if plain == 0 {
			continue
		}
		last, at := Locate(plain - 1)
		for _, l := range []Layout{WriteOnce, Padded} {
			stored := StoredSize(plain, l)
			n := Blocks(stored)
			if n != last+1 {
				t.Fatalf("layout %d, %d bytes: %d blocks, want %d", l, plain, n, last+1)
			}
			f := MakeField(last, at+1, l == WriteOnce)
			if got := PlainSize(n, f); got != plain {
				t.Fatalf("layout %d, %d bytes: field tells %d", l, plain, got)
			}
			if want := last.StoredStart() + int64(f.StoredLen(last)); stored != want {
				t.Fatalf("layout %d, %d bytes: stored size %d, record ends at %d", l, plain, stored, want)
			}
			if l == Padded && !Aligned(stored) {
				t.Fatalf("padded, %d bytes: stored size %d", plain, stored)
			}
		}
		stored := StoredSize(plain, WriteOnce)
		if stored > MaxStored {
			continue
		}
		got, err := PlainSizeFinal(stored)
		if err != nil || got != plain {
			t.Fatalf("write-once, %d bytes: %d, %v", plain, got, err)
		}
		if b := int64(Blocks(stored)); plain != stored-30*b-56 { // the formula of C7, as it stands there
			t.Fatalf("write-once, %d bytes: formula gives %d", plain, stored-30*b-56)
		}
	}
}

// TestImpossibleSizes checks the sizes that leave a last block without payload.
func TestImpossibleSizes(t *testing.T) {
	t.Parallel()
	var bad []int64
	for s := int64(1); s <= HeaderSize+Overhead; s++ {
		bad = append(bad, s)
	}
	for _, no := range []BlockNo{1, 2, 1000} {
		for d := int64(1); d <= Overhead; d++ {
			bad = append(bad, no.StoredStart()+d)
		}
	}
	bad = append(bad, MaxStored+1, MaxStored+100)
	for _, s := range bad {
		if plain, err := PlainSizeFinal(s); !errors.Is(err, ErrCorrupt) {
			t.Errorf("stored size %d: plaintext of %d bytes, %v", s, plain, err)
		}
	}
	for _, s := range []int64{87, 4095, 4096 + 31, 8191, MaxStored - 1} {
		if _, err := PlainSizeFinal(s); err != nil {
			t.Errorf("stored size %d: %v", s, err)
		}
	}
}

func TestLocate(t *testing.T) {
	t.Parallel()
	check := func(off int64) {
		no, at := Locate(off)
		if at < 0 || at >= no.Capacity() || no.PlainStart()+int64(at) != off {
			t.Fatalf("offset %d: block %d, byte %d", off, no, at)
		}
	}
	for off := int64(0); off < 4*BlockSize; off++ {
		check(off)
	}
	for _, off := range edges() {
		check(off)
	}
	for no := BlockNo(0); no < 100; no++ {
		if got := (no + 1).PlainStart() - no.PlainStart(); got != int64(no.Capacity()) {
			t.Errorf("block %d holds %d bytes, capacity %d", no, got, no.Capacity())
		}
		if no.Capacity()+no.RecordOffset()+Overhead != BlockSize {
			t.Errorf("block %d does not fill 4096 bytes", no)
		}
	}
}

func TestField(t *testing.T) {
	t.Parallel()
	for _, no := range []BlockNo{0, 1, 7} {
		for _, n := range []int{1, 2, 100, no.Capacity() - 1, no.Capacity()} {
			for _, final := range []bool{false, true} {
				f := MakeField(no, n, final)
				if f.Len() != n || f.Final() != final {
					t.Errorf("block %d, %d bytes, final %v: field %04x", no, n, final, uint16(f))
				}
				block := make([]byte, f.StoredLen(no))
				binary.BigEndian.PutUint16(block[no.RecordOffset()+NonceSize:], uint16(f))
				if got, err := ParseField(no, block); err != nil || got != f {
					t.Errorf("block %d, %d bytes, final %v: parsed %04x, %v", no, n, final, uint16(got), err)
				}
			}
		}
	}
}

func TestMakeFieldPanics(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		no BlockNo
		n  int
	}{{0, 0}, {0, -1}, {0, 4011}, {1, 0}, {1, 4067}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("block %d, %d bytes: no panic", tt.no, tt.n)
				}
			}()
			MakeField(tt.no, tt.n, false)
		}()
	}
}

// stored returns the bytes of a record with the given field, cut or filled to n bytes.
func stored(no BlockNo, field uint16, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 0xaa
	}
	if at := no.RecordOffset() + NonceSize; at+2 <= n {
		binary.BigEndian.PutUint16(b[at:], field)
	}
	return b
}

func TestParseFieldRefuses(t *testing.T) {
	t.Parallel()
	zeroTail := func(b []byte, from int) []byte {
		clear(b[from:])
		return b
	}
	for _, tt := range []struct {
		name  string
		no    BlockNo
		block []byte
		ok    bool
	}{
		{"full block", 1, stored(1, 4066, 4096), true},
		{"full block 0", 0, stored(0, 4010, 4096), true},
		{"final", 1, stored(1, 0x8000|100, 130), true},
		{"final with zeros up to the edge", 1, zeroTail(stored(1, 0x8000|100, 4096), 130), true},
		{"final with zeros short of the edge", 1, zeroTail(stored(1, 0x8000|100, 4095), 130), false},
		{"final with data behind", 1, stored(1, 0x8000|100, 4096), false},
		{"final with one byte behind", 1, stored(1, 0x8000|100, 131), false},
		{"final, cut by one", 1, stored(1, 0x8000|100, 129), false},
		{"length 0", 1, stored(1, 0, 4096), false},
		{"length 0, final", 1, stored(1, 0x8000, 4096), false},
		{"length above the capacity", 1, stored(1, 4067, 4096), false},
		{"length above the capacity of block 0", 0, stored(0, 4011, 4096), false},
		{"largest length", 1, stored(1, 0x7fff, 4096), false},
		{"largest field", 1, stored(1, 0xffff, 4096), false},
		{"not final, cut", 1, stored(1, 100, 130), false},
		{"not final, one byte missing", 1, stored(1, 4066, 4095), false},
		{"empty", 1, nil, false},
		{"only a nonce", 1, stored(1, 0, 12), false},
		{"no room for a byte", 1, stored(1, 0x8001, 30), false},
		{"block 0 without record", 0, stored(0, 0, 56), false},
		{"zeros", 1, make([]byte, 4096), false},
	} {
		f, err := ParseField(tt.no, tt.block)
		if tt.ok != (err == nil) || err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: field %04x, error %v", tt.name, uint16(f), err)
		}
	}
}

func sampleHeader(l Layout) Header {
	h := Header{Layout: l}
	for i := range h.KeyID {
		h.KeyID[i] = byte(0x40 + i)
	}
	for i := range h.Salt {
		h.Salt[i] = byte(0x60 + i)
	}
	return h
}

func TestHeader(t *testing.T) {
	t.Parallel()
	for _, l := range []Layout{WriteOnce, Padded} {
		h := sampleHeader(l)
		b := h.AppendTo([]byte("x"))[1:]
		if len(b) != HeaderSize {
			t.Fatalf("header of %d bytes", len(b))
		}
		want := append([]byte{'m', 'c', 'f', 's', 1, byte(l), 0, 0}, append(h.KeyID[:], h.Salt[:]...)...)
		if !bytes.Equal(b, want) {
			t.Errorf("header %x, want %x (C3)", b, want)
		}
		for _, tail := range []int{0, 1, 4040} {
			got, err := ParseHeader(append(bytes.Clone(b), make([]byte, tail)...))
			if err != nil || got != h {
				t.Errorf("layout %d: %+v, %v", l, got, err)
			}
		}
	}
}

func TestHeaderRefuses(t *testing.T) {
	t.Parallel()
	h := sampleHeader(Padded)
	good := h.AppendTo(nil)
	change := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		return b
	}
	type test struct {
		name string
		b    []byte
		want error
	}
	tests := []test{{"empty", nil, ErrCorrupt}, {"zeros", make([]byte, 56), ErrCorrupt}, {"layout 0", change(5, 0), ErrCorrupt},
		{"layout 3", change(5, 3), ErrCorrupt}, {"reserved", change(6, 1), ErrCorrupt}, {"reserved, low byte", change(7, 1), ErrCorrupt}}
	for i := range 4 {
		tests = append(tests, test{fmt.Sprintf("magic byte %d", i), change(i, good[i]^0x20), ErrCorrupt})
	}
	for i := range HeaderSize {
		tests = append(tests, test{fmt.Sprintf("cut to %d", i), good[:i], ErrCorrupt})
	}
	for v := range 256 { // F1: nothing but the version is judged, even when all else is wrong
		if v == Version {
			continue
		}
		wrong := bytes.Repeat([]byte{0xff}, HeaderSize)
		copy(wrong, "mcfs")
		wrong[4] = byte(v)
		tests = append(tests, test{fmt.Sprintf("version %d", v), change(4, byte(v)), ErrUnsupported},
			test{fmt.Sprintf("version %d, rest wrong", v), wrong, ErrUnsupported}, test{fmt.Sprintf("version %d, rest missing", v), wrong[:5], ErrUnsupported})
	}
	for _, tt := range tests {
		if _, err := ParseHeader(tt.b); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestZero(t *testing.T) {
	t.Parallel()
	b := make([]byte, 100)
	if !Zero(b) || !Zero(nil) {
		t.Error("zeros are not zero")
	}
	for i := range b {
		b[i] = 1
		if Zero(b) {
			t.Errorf("byte %d does not count", i)
		}
		b[i] = 0
	}
}
