package content

import (
	"crypto/rand"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/seal"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// memLower is a stored file in memory.
type memLower struct {
	mu sync.RWMutex
	b  []byte
}

func (m *memLower) ReadAt(p []byte, off int64) (int, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if off >= int64(len(m.b)) {
		return 0, io.EOF
	}
	n := copy(p, m.b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memLower) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.b = resized(m.b, max(int64(len(m.b)), off+int64(len(p))))
	return copy(m.b[off:], p), nil
}

func (m *memLower) Truncate(stored int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.b = resized(m.b, stored)
	return nil
}

func (m *memLower) Sync(bool) error { return nil }

func (m *memLower) size() int64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return int64(len(m.b))
}

// resized cuts b or fills it with zeros up to size.
func resized(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size]
	}
	n := len(b)
	b = slices.Grow(b, int(size)-n)[:size]
	clear(b[n:])
	return b
}

// testKeys gives new files the content key current in the layout, and opens files of every key it has.
type testKeys struct {
	layout  format.Layout
	current secret.ID
	known   map[secret.ID]*secret.Key
}

// newKeys returns keys with one random content key.
func newKeys(t testing.TB, l format.Layout) *testKeys {
	t.Helper()
	raw := make([]byte, secret.Size)
	_, _ = rand.Read(raw)
	id := secret.RandomID()
	return &testKeys{layout: l, current: id, known: map[secret.ID]*secret.Key{id: newKey(t, raw)}}
}

// newKey returns a key that is wiped with the test; b is not changed.
func newKey(t testing.TB, b []byte) *secret.Key {
	t.Helper()
	k, err := secret.NewKey(slices.Clone(b))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

func (k *testKeys) New() (format.Header, *seal.FileKey, error) {
	h := format.Header{Layout: k.layout, KeyID: k.current}
	_, _ = rand.Read(h.Salt[:])
	key, err := k.Open(&h)
	return h, key, err
}

func (k *testKeys) Open(h *format.Header) (*seal.FileKey, error) {
	key := k.known[h.KeyID]
	if key == nil {
		return nil, secret.ErrUnknownKey
	}
	return seal.NewFileKey(key, h)
}

// readAll returns what File.ReadAt gives for the whole file.
func readAll(t testing.TB, f *File) []byte {
	t.Helper()
	b := make([]byte, f.Size())
	n, err := f.ReadAt(b, 0)
	if err != nil || int64(n) != f.Size() {
		t.Fatalf("read %d of %d bytes: %v", n, f.Size(), err)
	}
	return b
}
