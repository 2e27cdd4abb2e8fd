package content

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// FuzzOpen: of a file that anything was done to, a block opens to what was sealed in its place, or not at all. The fuzzer
// cuts a good file, appends to it, moves one block over another and lays bytes over it. What ended a padded file may become an
// inner block that way, and then has zeros behind its payload (C8).
func FuzzOpen(f *testing.F) {
	plain := newForger("fuzz").random(13000)
	keys := &testKeys{known: map[secret.ID]*secret.Key{secret.ID(vectorKeyID): newKey(f, vectorKey)}}
	f.Fuzz(func(t *testing.T, writeOnceLayout bool, size, cut uint16, tail []byte, from, to uint8, at uint16, over []byte) {
		layout := byte(padded)
		if writeOnceLayout {
			layout = writeOnce
		}
		want := plain[:int(size)%len(plain)]
		forge := newForger("fuzz")
		good := forge.file(layout, want)
		b := slices.Clone(good[:len(good)-int(cut)%(len(good)+1)])
		if src, dst := int(from%8)*4096, int(to%8)*4096; src+4096 <= len(b) && dst+4096 <= len(b) {
			copy(b[dst:dst+4096], good[src:])
		}
		b = append(b, tail...)
		if int(at) < len(b) {
			copy(b[at:], over)
		}
		low := &memLower{b: b}
		file, err := Open(low, low.size(), keys)
		if err != nil {
			checkKind(t, err)
			return
		}
		for no := 0; int64(start(no)) < file.Size(); no++ {
			got := make([]byte, min(capacity(no), int(file.Size())-start(no)))
			if _, err := file.ReadAt(got, int64(start(no))); err != nil {
				checkKind(t, err)
				continue
			}
			rest, begun := bytes.CutPrefix(got, want[min(start(no), len(want)):min(start(no)+len(got), len(want))])
			if !begun || len(rest) == len(got) || len(rest) > 0 && (layout == writeOnce || len(bytes.Trim(rest, "\x00")) > 0) {
				t.Fatalf("block %d opens to something that was never written", no)
			}
		}
		if bytes.Equal(b, good) && file.Size() != int64(len(want)) {
			t.Fatalf("an unchanged file has %d bytes, want %d", file.Size(), len(want))
		}
	})
}

func checkKind(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, format.ErrCorrupt) && !errors.Is(err, format.ErrUnsupported) && !errors.Is(err, secret.ErrUnknownKey) {
		t.Fatalf("error of no kind: %v", err)
	}
}

// FuzzProbe: sizes by Probe and by arithmetic agree, and nothing is told of what is not there.
func FuzzProbe(f *testing.F) {
	f.Fuzz(func(t *testing.T, head []byte, zeros uint16, tail []byte, moreZeros uint16) {
		b := slices.Concat(head, make([]byte, int(zeros)%9000), tail, make([]byte, int(moreZeros)%9000))
		n := int64(len(b))
		if n == 0 {
			return
		}
		s, err := Probe(bytes.NewReader(b), n)
		if err != nil {
			if errors.Is(err, format.ErrCorrupt) == errors.Is(err, format.ErrUnsupported) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		if s.Plain == 0 {
			if !format.Zero(b) || !format.Aligned(n) {
				t.Fatal("an empty file of bytes that are not zero")
			}
			return
		}
		if h := s.Header.AppendTo(nil); !bytes.Equal(h, b[:len(h)]) {
			t.Fatalf("header %x", h)
		}
		if s.Plain > n || !s.Final && s.Header.Layout == format.WriteOnce {
			t.Fatalf("%+v of %d stored bytes", s, n)
		}
		if plain, err := format.PlainSizeFinal(n); !format.Aligned(n) && (err != nil || plain != s.Plain) {
			t.Fatalf("size %d by Probe, %d by arithmetic, %v", s.Plain, plain, err)
		}
	})
}
