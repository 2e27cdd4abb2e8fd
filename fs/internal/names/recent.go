package names

import (
	"hash/maphash"
	"sync/atomic"
)

// How many names are remembered.
const (
	// sealedNames: those of the operations under way and of those that follow soon, as a
	// message is looked up, made, looked up again and renamed.
	sealedNames = 1 << 10
	// openedNames: those of the folders in use. A mail server lists a folder again after
	// each change in it. A remembered name takes some 250 bytes.
	openedNames = 1 << 15
)

// recent remembers what names were translated to lately. Each name has one place, which
// it takes from the one before. It is safe for concurrent use.
type recent[V any] struct {
	seed   maphash.Seed
	places []atomic.Pointer[translated[V]]
}

type translated[V any] struct {
	from string
	to   V
}

func newRecent[V any](size int) *recent[V] {
	return &recent[V]{maphash.MakeSeed(), make([]atomic.Pointer[translated[V]], size)}
}

func (r *recent[V]) place(from string) *atomic.Pointer[translated[V]] {
	return &r.places[maphash.String(r.seed, from)%uint64(len(r.places))]
}

// find returns what from was translated to.
func (r *recent[V]) find(from string) (to V, ok bool) {
	t := r.place(from).Load()
	if t == nil || t.from != from {
		return to, false
	}
	return t.to, true
}

// add remembers a translation. The caller must not hand over parts of a buffer.
func (r *recent[V]) add(from string, to V) {
	r.place(from).Store(&translated[V]{from, to})
}
