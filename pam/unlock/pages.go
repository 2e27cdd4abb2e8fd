package unlock

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// pageSize holds any request (wire.MaxRequest).
const pageSize = 4096

// pages is a fixed number of pages of locked memory outside the Go heap, left out of core dumps (P13). Their number is
// also the bound on open connections. take and give are safe for concurrent use.
type pages struct {
	arena []byte
	free  chan []byte
}

// newPages returns n pages, or secret.ErrMemory.
func newPages(n int) (*pages, error) {
	arena, err := unix.Mmap(-1, 0, n*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("%w: %d pages for PAM requests: %w", secret.ErrMemory, n, err)
	}
	err = unix.Mlock(arena)
	if err == nil {
		err = unix.Madvise(arena, unix.MADV_DONTDUMP)
	}
	if err != nil {
		_ = unix.Munmap(arena)
		return nil, fmt.Errorf("%w: %d pages for PAM requests: %w", secret.ErrMemory, n, err)
	}
	p := &pages{arena: arena, free: make(chan []byte, n)}
	for at := 0; at < len(arena); at += pageSize {
		p.free <- arena[at : at+pageSize : at+pageSize]
	}
	return p, nil
}

// take returns a page of zeroes, or nil if none is free.
func (p *pages) take() []byte {
	select {
	case page := <-p.free:
		return page
	default:
		return nil
	}
}

// give wipes a page and takes it back.
func (p *pages) give(page []byte) {
	secret.Wipe(page)
	p.free <- page
}

// close wipes and frees all pages. None may be in use.
func (p *pages) close() {
	secret.Wipe(p.arena)
	_ = unix.Munmap(p.arena)
}
