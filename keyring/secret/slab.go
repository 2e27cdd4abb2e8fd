package secret

import (
	"fmt"
	"os"
	"sync"

	"github.com/awnumar/memcall"
	"github.com/awnumar/memguard"
)

// slabSize is the size of one locked buffer in bytes. One buffer per key would take 69 µs, two pages and three mappings
// each; a slab serves 512 keys.
const slabSize = 16 << 10

type cell [Size]byte

// allocator hands out cells of locked slabs. Slabs are kept once allocated, as the heap keeps its arenas: their number
// is bounded by the largest number of keys that were in use at once.
type allocator struct {
	mu    sync.Mutex
	slabs []*memguard.LockedBuffer // keeps the mappings reachable
	free  []*cell
}

// cells is the process-wide allocator. Locked memory is a resource of the process just as the heap is (RLIMIT_MEMLOCK
// counts per process), so one allocator serves all, and no caller has to pass it along.
var cells allocator

// take returns a zeroed cell, or ErrMemory.
func (a *allocator) take() (*cell, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.free) == 0 {
		if err := a.growLocked(); err != nil {
			return nil, err
		}
	}
	c := a.free[len(a.free)-1]
	a.free = a.free[:len(a.free)-1]
	return c, nil
}

// give zeroes a cell and takes it back.
func (a *allocator) give(c *cell) {
	Wipe(c[:])
	a.mu.Lock()
	defer a.mu.Unlock()
	a.free = append(a.free, c)
}

func (a *allocator) growLocked() error {
	if err := rehearse(slabSize); err != nil {
		return fmt.Errorf("%w: %w", ErrMemory, err)
	}
	buf := memguard.NewBuffer(slabSize)
	// On some failures the constructor returns an empty buffer instead of an error.
	if buf.Size() != slabSize {
		return ErrMemory
	}
	a.slabs = append(a.slabs, buf)
	b := buf.Bytes()
	for off := 0; off+Size <= len(b); off += Size {
		a.free = append(a.free, (*cell)(b[off:off+Size]))
	}
	return nil
}

// rehearse does, and undoes, the system calls that memguard makes for a buffer of size bytes. When one of them fails
// within memguard it destroys every buffer of the process and panics; here the same failure is an error and the keys
// of everybody else live on.
func rehearse(size int) error {
	page := os.Getpagesize()
	mem, err := memcall.Alloc(size + 2*page)
	if err != nil {
		return err
	}
	inner := mem[page : page+size]
	if err := memcall.Lock(inner); err != nil {
		return errFirst(err, memcall.Free(mem))
	}
	for _, guard := range [][]byte{mem[:page], mem[page+size:]} {
		if err := memcall.Protect(guard, memcall.NoAccess()); err != nil {
			return errFirst(err, memcall.Free(mem))
		}
	}
	if err := memcall.Unlock(inner); err != nil {
		return errFirst(err, memcall.Free(mem))
	}
	return memcall.Free(mem)
}

// errFirst returns the error that made a clean-up necessary; one of the clean-up itself adds nothing to the remedy.
func errFirst(err, _ error) error { return err }
