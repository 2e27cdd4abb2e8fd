package seal

import (
	"bytes"
	"errors"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
)

// FuzzOpen: a block that opens is exactly what Seal makes of its plaintext; everything else is corrupt. So that some do
// open, the stored bytes are those of a good block with the fuzzer's laid over them.
func FuzzOpen(f *testing.F) {
	h := header(format.Padded)
	k := fileKey(f, 1, h)
	f.Fuzz(func(t *testing.T, no int64, final bool, plain []byte, cut uint16, at uint16, over []byte) {
		b := Block{Header: h, No: format.BlockNo(no & (1<<31 - 1)), Final: final}
		if len(plain) == 0 || len(plain) > b.No.Capacity() {
			return
		}
		stored := sealed(k, b, plain)
		good := bytes.Clone(stored)
		stored = stored[:len(stored)-int(cut)%(len(stored)+1)]
		if int(at) < len(stored) {
			copy(stored[at:], over)
		}
		got, fin, err := k.Open(nil, b, stored)
		// The header is no part of what a record is told: a reader takes it from the file before.
		same := bytes.Equal(stored[min(len(stored), b.No.RecordOffset()):], good[b.No.RecordOffset():])
		if same != (err == nil) {
			t.Fatalf("unchanged %v, error %v", same, err)
		}
		if err != nil {
			if !errors.Is(err, format.ErrCorrupt) || len(got) > 0 {
				t.Fatalf("%d bytes with error %v", len(got), err)
			}
			return
		}
		if !bytes.Equal(got, plain) || fin != final {
			t.Fatalf("opened to %d other bytes, final %v", len(got), fin)
		}
	})
}

// FuzzOpenRaw: bytes that nobody sealed never open.
func FuzzOpenRaw(f *testing.F) {
	h := header(format.WriteOnce)
	k := fileKey(f, 1, h)
	f.Fuzz(func(t *testing.T, no int64, stored []byte) {
		if len(stored) > format.BlockSize {
			return
		}
		for _, b := range []Block{{Header: h, No: 0}, {Header: h, No: format.BlockNo(no & (1<<31 - 1))}} {
			if got, _, err := k.Open(nil, b, stored); !errors.Is(err, format.ErrCorrupt) || len(got) > 0 {
				t.Fatalf("block %d: %d bytes, %v", b.No, len(got), err)
			}
		}
	})
}

// FuzzNames: what opens is what was sealed, under its label alone.
func FuzzNames(f *testing.F) {
	n := newNames(f)
	f.Fuzz(func(t *testing.T, label uint8, name string, raw []byte) {
		l := labels[int(label)%len(labels)]
		if got, err := n.Open(l, raw); err == nil && !bytes.Equal(n.Seal(nil, l, got), raw) {
			t.Fatalf("%x opens to %q, which is sealed otherwise", raw, got)
		}
		got, err := n.Open(l, n.Seal(nil, l, name))
		if (err == nil) != (name != "") || got != name {
			t.Fatalf("%q opens to %q, %v", name, got, err)
		}
	})
}

// FuzzXAttrValue: a value opens under its name and unchanged, or not at all.
func FuzzXAttrValue(f *testing.F) {
	x, err := NewXAttrs(key(f, 5))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name string, value, raw []byte, at uint16, bit uint8) {
		if _, err := x.Open(name, raw); !errors.Is(err, format.ErrCorrupt) {
			t.Fatalf("%x opens: %v", raw, err)
		}
		stored := x.Seal(name, value)
		if got, err := x.Open(name, stored); err != nil || !bytes.Equal(got, value) {
			t.Fatalf("does not open: %v", err)
		}
		stored[int(at)%len(stored)] ^= 1 << (bit % 8)
		if _, err := x.Open(name, stored); !errors.Is(err, format.ErrCorrupt) {
			t.Fatalf("opens with a changed bit: %v", err)
		}
	})
}
