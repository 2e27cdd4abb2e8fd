package content

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
)

// sized is a lower file whose size can be asked for, as fstat(2) tells it.
type sized interface {
	Lower
	size() int64
}

// model drives a File and keeps what its plaintext must be.
type model struct {
	t    testing.TB
	low  sized
	keys Keys
	f    *File
	want []byte
	log  []string // what was done, for a failure
}

func newModel(t testing.TB, low sized, keys Keys) *model {
	m := &model{t: t, low: low, keys: keys}
	m.reopen()
	return m
}

func (m *model) note(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) }

func (m *model) fatalf(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("after %v: %s", m.log, fmt.Sprintf(format, args...))
}

// reopen takes the stored file up again and checks its content.
func (m *model) reopen() {
	m.t.Helper()
	f, err := Open(m.low, m.low.size(), m.keys)
	if err != nil {
		m.fatalf("open: %v", err)
	}
	m.f = f
	if m.want != nil {
		m.check()
	}
}

func (m *model) check() {
	m.t.Helper()
	if m.f.Size() != int64(len(m.want)) {
		m.fatalf("size %d, want %d", m.f.Size(), len(m.want))
	}
	got := make([]byte, len(m.want)+1)
	n, err := m.f.ReadAt(got, 0)
	if err != nil || n != len(m.want) {
		m.fatalf("read %d of %d bytes: %v", n, len(m.want), err)
	}
	if !bytes.Equal(got[:n], m.want) {
		m.fatalf("wrong byte at %d", firstDifference(got[:n], m.want))
	}
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func (m *model) write(p []byte, off int64) {
	m.t.Helper()
	m.note("write %d at %d", len(p), off)
	n, err := m.f.WriteAt(p, off)
	if err != nil || n != len(p) {
		m.fatalf("wrote %d of %d: %v", n, len(p), err)
	}
	m.want = written(m.want, p, off)
	m.check()
}

// written is what WriteAt makes of a plaintext.
func written(want, p []byte, off int64) []byte {
	want = resized(bytes.Clone(want), max(int64(len(want)), off+int64(len(p))))
	copy(want[off:], p)
	return want
}

func (m *model) truncate(size int64) {
	m.t.Helper()
	m.note("truncate to %d", size)
	if err := m.f.Truncate(size); err != nil {
		m.fatalf("truncate: %v", err)
	}
	m.want = resized(bytes.Clone(m.want), size)
	m.check()
}

func (m *model) sync() {
	m.t.Helper()
	m.note("sync")
	if err := m.f.Sync(false); err != nil {
		m.fatalf("sync: %v", err)
	}
}

// source makes random operations with sizes near the edges of blocks.
type source struct{ *rand.Rand }

func newSource(name string, n int) source {
	return source{rand.New(rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "%s %d", name, n))))}
}

func (r source) offset(limit int64) int64 {
	switch r.IntN(3) {
	case 0:
		return r.Int64N(limit + 1)
	case 1:
		return r.Int64N(min(limit, 200) + 1)
	}
	return max(0, format.BlockNo(r.Int64N(limit/4066+2)).PlainStart()+r.Int64N(7)-3)
}

func (r source) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// step does one random operation.
func (m *model) step(r source) {
	size := int64(len(m.want))
	switch r.IntN(12) {
	case 0, 1, 2: // append, as logs and mails are written
		m.write(r.bytes(1+int(r.offset(6000))), size)
	case 3, 4, 5:
		m.write(r.bytes(1+int(r.offset(9000))), r.offset(size))
	case 6:
		m.write(r.bytes(1+r.IntN(100)), size+r.offset(9000))
	case 7:
		m.truncate(r.offset(size + 5000))
	case 8:
		if r.IntN(4) == 0 {
			m.truncate(0)
		} else {
			m.truncate(r.offset(size))
		}
	case 9, 10:
		m.sync()
	case 11:
		m.note("reopen")
		m.reopen()
	}
}

// TestModel does random operations and compares with a byte slice after each, and with a second reader of the stored
// bytes.
func TestModel(t *testing.T) {
	t.Parallel()
	for l, name := range map[format.Layout]string{format.WriteOnce: "write-once", format.Padded: "padded"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for run := range 25 {
				m := newModel(t, &memLower{}, newKeys(t, l))
				r := newSource(name, run)
				for range 60 {
					m.step(r)
					m.fresh()
				}
			}
		})
	}
}

// fresh opens the stored bytes beside the file that is open and compares.
func (m *model) fresh() {
	m.t.Helper()
	n := newModel(m.t, m.low, m.keys)
	n.log, n.want = m.log, append([]byte{}, m.want...)
	n.check()
}

// TestLargeWrites crosses the limit of what goes through one system call.
func TestLargeWrites(t *testing.T) {
	t.Parallel()
	const chunk = chunkBlocks * 4066
	for _, l := range []format.Layout{format.WriteOnce, format.Padded} {
		r := newSource("large", int(l))
		m := newModel(t, &memLower{}, newKeys(t, l))
		m.write(r.bytes(chunk*2+5000), 0)
		m.fresh()
		m.write(r.bytes(chunk+3), 4009)
		m.fresh()
		m.sync()
		m.write(r.bytes(10), chunk*5) // a gap larger than a chunk
		m.fresh()
		m.truncate(chunk + 1)
		m.write(r.bytes(chunk), chunk+1)
		m.truncate(chunk * 3)
		m.fresh()
	}
}

// TestWriteOnceStays checks C7 and C11: a mail that is written and synced once has the write-once size, however it is
// written.
func TestWriteOnceStays(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 4009, 4010, 4011, 8076, 8077, 20000, 300000} {
		for _, step := range []int{1 << 20, 4096, 1000} {
			low := &memLower{}
			m := newModel(t, low, newKeys(t, format.WriteOnce))
			all := newSource("mail", size).bytes(size)
			for at := 0; at < size; at += step {
				n := min(step, size-at)
				if _, err := m.f.WriteAt(all[at:at+n], int64(at)); err != nil {
					t.Fatal(err)
				}
			}
			m.want = all
			m.sync()
			m.reopen()
			if got, want := low.size(), format.StoredSize(int64(size), format.WriteOnce); got != want {
				t.Errorf("%d bytes in steps of %d: stored size %d, want %d", size, step, got, want)
			}
			if h, ok := m.f.Header(); !ok || h.Layout != format.WriteOnce {
				t.Errorf("header %+v, %v", h, ok)
			}
			m.f.settle()
			m.write([]byte("x"), int64(size)) // C10
			m.fresh()
			if h, _ := m.f.Header(); h.Layout != format.Padded || !format.Aligned(low.size()) {
				t.Errorf("after an append: layout %d, stored size %d", h.Layout, low.size())
			}
		}
	}
}

// TestSaltsAreNew checks C3 and C13: a file that is emptied gets a new salt, and no nonce is used twice.
func TestSaltsAreNew(t *testing.T) {
	t.Parallel()
	low := &recorder{}
	m := newModel(t, low, newKeys(t, format.Padded))
	salts := map[[format.SaltSize]byte]bool{}
	for range 50 {
		m.write([]byte("content"), 0)
		h, _ := m.f.Header()
		if salts[h.Salt] {
			t.Fatal("a salt is used twice")
		}
		salts[h.Salt] = true
		m.truncate(0)
		if _, ok := m.f.Header(); ok {
			t.Fatal("an empty file has a header")
		}
	}
	m.write(bytes.Repeat([]byte("a"), 30000), 0)
	for i := range 100 {
		m.write([]byte{byte(i)}, int64(i*250))
	}
	nonces := map[string]bool{}
	for _, op := range low.ops {
		if op.kind != lowWrite {
			continue
		}
		for at := 0; at < len(op.data); at += format.BlockSize {
			no := format.BlockNo((op.off + int64(at)) / format.BlockSize)
			nonce := op.data[at+no.RecordOffset():][:format.NonceSize]
			if nonces[string(nonce)] {
				t.Fatal("a nonce is used twice")
			}
			nonces[string(nonce)] = true
		}
	}
	if len(nonces) < 150 {
		t.Errorf("only %d nonces seen", len(nonces))
	}
}

// TestLimits checks C14 and what calls that change nothing do.
func TestLimits(t *testing.T) {
	t.Parallel()
	low := &memLower{}
	m := newModel(t, low, newKeys(t, format.Padded))
	if n, err := m.f.WriteAt(nil, 1<<40); n != 0 || err != nil || low.size() != 0 {
		t.Errorf("empty write: %d, %v, stored size %d", n, err, low.size())
	}
	if _, err := m.f.WriteAt([]byte("x"), maxPlain); err != ErrTooLarge {
		t.Errorf("write beyond the limit: %v", err)
	}
	if err := m.f.Truncate(maxPlain + 1); err != ErrTooLarge {
		t.Errorf("truncate beyond the limit: %v", err)
	}
	if low.size() != 0 {
		t.Errorf("refused calls have written %d bytes", low.size())
	}
	if stored := format.StoredSize(maxPlain, format.Padded); stored > format.MaxStored {
		t.Errorf("a file of the largest size has %d stored bytes", stored)
	}
	if n, err := m.f.ReadAt(make([]byte, 10), 0); n != 0 || err != nil {
		t.Errorf("read of an empty file: %d, %v", n, err)
	}
	m.write([]byte("abc"), 0)
	for _, off := range []int64{3, 4, 1 << 50} {
		if n, err := m.f.ReadAt(make([]byte, 10), off); n != 0 || err != nil {
			t.Errorf("read at %d: %d, %v", off, n, err)
		}
	}
}
