package names

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// knownSize is how many names are remembered, a power of two: those of the operations
// under way and of those that follow soon, as a message is looked up, made, looked up
// again and renamed.
const knownSize = 1024

// known remembers the stored names of view names that were encrypted lately. Each name
// has one place, which it takes from the one before. It is safe for concurrent use.
type known struct {
	seed  maphash.Seed
	names [knownSize]atomic.Pointer[knownName]
}

type knownName struct {
	view   string
	stored Stored
}

func (k *known) place(view string) *atomic.Pointer[knownName] {
	return &k.names[maphash.String(k.seed, view)%knownSize]
}

func (k *known) stored(view string) (Stored, bool) {
	n := k.place(view).Load()
	if n == nil || n.view != view {
		return Stored{}, false
	}
	return n.stored, true
}

func (k *known) add(view string, s Stored) {
	k.place(view).Store(&knownName{strings.Clone(view), s}) // not a part of a request's buffer
}
