package seal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// key returns a key of 32 equal bytes.
func key(t testing.TB, b byte) *secret.Key {
	t.Helper()
	k, err := secret.NewKey(bytes.Repeat([]byte{b}, secret.Size))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

func header(l format.Layout) *format.Header {
	h := &format.Header{Layout: l}
	for i := range h.KeyID {
		h.KeyID[i] = byte(i)
	}
	for i := range h.Salt {
		h.Salt[i] = byte(0x80 + i)
	}
	return h
}

func fileKey(t testing.TB, content byte, h *format.Header) *FileKey {
	t.Helper()
	k, err := NewFileKey(key(t, content), h)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func random(n int) []byte {
	b := make([]byte, n)
	Nonces(b)
	return b
}

// sealed returns the stored bytes of a block.
func sealed(k *FileKey, b Block, plain []byte) []byte {
	dst := make([]byte, format.BlockSize)
	return dst[:k.Seal(dst, b, random(format.NonceSize), plain)]
}

// TestBlocks seals and opens payloads of every length near an edge.
func TestBlocks(t *testing.T) {
	t.Parallel()
	for _, l := range []format.Layout{format.WriteOnce, format.Padded} {
		h := header(l)
		k := fileKey(t, 1, h)
		for _, no := range []format.BlockNo{0, 1, 2, 1 << 30} {
			c := no.Capacity()
			for _, n := range []int{1, 2, 15, 16, 17, 100, c / 2, c - 17, c - 16, c - 2, c - 1, c} {
				for _, final := range []bool{false, true} {
					plain := random(n)
					b := Block{Header: h, No: no, Final: final}
					stored := sealed(k, b, plain)
					if want := format.MakeField(no, n, final).StoredLen(no); len(stored) != want {
						t.Fatalf("block %d, %d bytes, final %v: %d stored bytes, want %d", no, n, final, len(stored), want)
					}
					if bytes.Contains(stored, plain) && n > 8 {
						t.Fatalf("block %d, %d bytes: plaintext is stored", no, n)
					}
					got, f, err := k.Open([]byte("before"), b, stored)
					if err != nil || f != final || string(got) != "before"+string(plain) {
						t.Fatalf("block %d, %d bytes, final %v: %d bytes, %v, %v", no, n, final, len(got), f, err)
					}
					if final { // followed by zeros up to the edge (C10)
						filled := append(slices.Clone(stored), make([]byte, format.BlockSize-len(stored))...)
						if got, _, err := k.Open(nil, b, filled); err != nil || !bytes.Equal(got, plain) {
							t.Fatalf("block %d, %d bytes, filled: %v", no, n, err)
						}
					}
				}
			}
		}
	}
}

// TestEveryBit checks that no bit of a stored block can change.
func TestEveryBit(t *testing.T) {
	t.Parallel()
	h := header(format.Padded)
	k := fileKey(t, 1, h)
	for _, no := range []format.BlockNo{0, 1} {
		for _, final := range []bool{false, true} {
			b := Block{Header: h, No: no, Final: final}
			stored := sealed(k, b, random(50))
			first := no.RecordOffset() // the header is judged by itself, and is in the associated data
			for at := first; at < len(stored); at++ {
				for bit := range 8 {
					stored[at] ^= 1 << bit
					if got, _, err := k.Open(nil, b, stored); !errors.Is(err, format.ErrCorrupt) || len(got) > 0 {
						t.Fatalf("block %d, byte %d, bit %d: %d bytes, %v", no, at, bit, len(got), err)
					}
					stored[at] ^= 1 << bit
				}
			}
		}
	}
}

// TestBinding checks what C6 binds: a block opens in no other place, file, layout, key or version.
func TestBinding(t *testing.T) {
	t.Parallel()
	h := header(format.Padded)
	k := fileKey(t, 1, h)
	other := func(change func(*format.Header)) *format.Header {
		c := *h
		change(&c)
		return &c
	}
	layout := other(func(h *format.Header) { h.Layout = format.WriteOnce })
	id := other(func(h *format.Header) { h.KeyID[3] ^= 1 })
	salt := other(func(h *format.Header) { h.Salt[31] ^= 1 })
	for _, tt := range []struct {
		name string
		k    *FileKey
		from Block
		to   Block
	}{
		{"number", k, Block{Header: h, No: 1}, Block{Header: h, No: 2}},
		{"number beyond 32 bits", k, Block{Header: h, No: 1}, Block{Header: h, No: 1<<32 + 1}},
		{"layout in block 0", k, Block{Header: h, No: 0}, Block{Header: layout, No: 0}},
		{"key id in block 0", k, Block{Header: h, No: 0}, Block{Header: id, No: 0}},
		{"salt in block 0", k, Block{Header: h, No: 0}, Block{Header: salt, No: 0}},
		{"content key", fileKey(t, 2, h), Block{Header: h, No: 1}, Block{Header: h, No: 1}},
		{"key id in the file key", fileKey(t, 1, id), Block{Header: h, No: 1}, Block{Header: id, No: 1}},
		{"salt in the file key", fileKey(t, 1, salt), Block{Header: h, No: 1}, Block{Header: salt, No: 1}},
	} {
		stored := sealed(k, tt.from, random(4000))
		if _, _, err := k.Open(nil, tt.from, stored); err != nil {
			t.Errorf("%s: control: %v", tt.name, err)
		}
		if got, _, err := tt.k.Open(nil, tt.to, stored); !errors.Is(err, format.ErrCorrupt) || len(got) > 0 {
			t.Errorf("%s: %d bytes, %v", tt.name, len(got), err)
		}
	}
	// The final mark: a full final block and a full one that is not occupy the same bytes.
	b := Block{Header: h, No: 1, Final: true}
	stored := sealed(k, b, random(4066))
	binary.BigEndian.PutUint16(stored[format.NonceSize:], 4066)
	if _, _, err := k.Open(nil, b, stored); !errors.Is(err, format.ErrCorrupt) {
		t.Errorf("final mark: %v", err)
	}
}

// TestAD spells out the associated data of C6.
func TestAD(t *testing.T) {
	t.Parallel()
	h := header(format.WriteOnce)
	first := Block{Header: h, No: 0}.ad(nil, 0x8006)
	if want := append(h.AppendTo(nil), 0x80, 6, 0, 0, 0, 0, 0, 0, 0, 0); !bytes.Equal(first, want) {
		t.Errorf("block 0: %x, want %x", first, want)
	}
	if len(first) != maxAD {
		t.Errorf("block 0: %d bytes", len(first))
	}
	if got, want := (Block{Header: h, No: 0x0102030405}).ad(nil, 0x0fe2), []byte{1, 0x0f, 0xe2, 0, 0, 0, 1, 2, 3, 4, 5}; !bytes.Equal(got, want) {
		t.Errorf("another block: %x, want %x", got, want)
	}
}

func TestNoncesAreNew(t *testing.T) {
	t.Parallel()
	seen := map[[format.NonceSize]byte]bool{}
	for range 10000 {
		var n [format.NonceSize]byte
		Nonces(n[:])
		if seen[n] {
			t.Fatal("a nonce came twice")
		}
		seen[n] = true
	}
}

func TestWipedKeys(t *testing.T) {
	t.Parallel()
	gone := key(t, 9)
	gone.Wipe()
	if _, err := NewFileKey(gone, header(format.Padded)); !errors.Is(err, secret.ErrWiped) {
		t.Errorf("file key: %v", err)
	}
	if _, err := NewNames(gone, key(t, 1)); !errors.Is(err, secret.ErrWiped) {
		t.Errorf("MAC key of names: %v", err)
	}
	if _, err := NewNames(key(t, 1), gone); !errors.Is(err, secret.ErrWiped) {
		t.Errorf("key of names: %v", err)
	}
	if _, err := NewXAttrs(gone); !errors.Is(err, secret.ErrWiped) {
		t.Errorf("key of attributes: %v", err)
	}
}

// TestAllocations keeps the cost of a block at one small allocation, the associated data.
func TestAllocations(t *testing.T) {
	h := header(format.Padded)
	k := fileKey(t, 1, h)
	dst, nonce, plain, out := make([]byte, format.BlockSize), random(format.NonceSize), random(4066), make([]byte, 0, 4066)
	b := Block{Header: h, No: 1}
	if n := testing.AllocsPerRun(100, func() { k.Seal(dst, b, nonce, plain) }); n > 1 {
		t.Errorf("Seal allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _, _ = k.Open(out, b, dst) }); n > 1 {
		t.Errorf("Open allocates %v times", n)
	}
}

func newNames(t testing.TB) *Names {
	t.Helper()
	n, err := NewNames(key(t, 3), key(t, 4))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

var labels = []Label{NameLabel, LongLabel, SymlinkLabel, XAttrLabel}

func TestNames(t *testing.T) {
	t.Parallel()
	n := newNames(t)
	for _, length := range []int{1, 2, 15, 16, 17, 31, 32, 33, 172, 173, 255, 3050} {
		name := string(random(length))
		seen := map[string]bool{}
		for _, l := range labels {
			s := n.Seal(nil, l, name)
			if len(s) != length+SIVSize || !bytes.Equal(s, n.Seal(nil, l, name)) {
				t.Errorf("%d bytes: sealed to %d, or not always the same", length, len(s))
			}
			if seen[string(s)] {
				t.Errorf("%d bytes: two labels seal alike", length)
			}
			seen[string(s)] = true
			for _, open := range labels {
				got, err := n.Open(open, s)
				if (open == l) != (err == nil) || err == nil && got != name {
					t.Errorf("%d bytes, sealed as %q, opened as %q: %v", length, l, open, err)
				}
			}
		}
	}
	for _, short := range [][]byte{nil, random(15), random(16)} {
		if _, err := n.Open(NameLabel, short); !errors.Is(err, ErrName) {
			t.Errorf("%d bytes: %v", len(short), err)
		}
	}
}

func TestNamesEveryBit(t *testing.T) {
	t.Parallel()
	n := newNames(t)
	s := n.Seal(nil, NameLabel, "1700000000.M1P2.mail:2,S")
	for at := range s {
		for bit := range 8 {
			s[at] ^= 1 << bit
			if name, err := n.Open(NameLabel, s); !errors.Is(err, ErrName) || name != "" {
				t.Errorf("byte %d, bit %d: %q, %v", at, bit, name, err)
			}
			s[at] ^= 1 << bit
		}
	}
}

func TestXAttrs(t *testing.T) {
	t.Parallel()
	x, err := NewXAttrs(key(t, 5))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 16, 4096, 60000} {
		value := random(n)
		stored := x.Seal("name", value)
		if len(stored) != n+Overhead || bytes.Equal(stored, x.Seal("name", value)) {
			t.Errorf("%d bytes: %d stored, or the same twice", n, len(stored))
		}
		if got, err := x.Open("name", stored); err != nil || !bytes.Equal(got, value) {
			t.Errorf("%d bytes: %v", n, err)
		}
		for _, bad := range [][]byte{nil, stored[:Overhead-1], stored[:len(stored)-1], append(slices.Clone(stored), 0)} {
			if _, err := x.Open("name", bad); !errors.Is(err, format.ErrCorrupt) {
				t.Errorf("%d of %d bytes: %v", len(bad), len(stored), err)
			}
		}
		if _, err := x.Open(strings.ToUpper("name"), stored); !errors.Is(err, format.ErrCorrupt) {
			t.Errorf("under another name: %v", err)
		}
	}
}
