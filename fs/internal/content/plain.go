package content

import (
	"io"
)

// Plain is the content of a plain entry: the stored file as it is. It is safe for
// concurrent use.
type Plain struct {
	low  Lower
	size func() (int64, error)
}

// NewPlain returns the content of the plain file low; size tells its size.
func NewPlain(low Lower, size func() (int64, error)) *Plain { return &Plain{low, size} }

// ReadAt reads at offset off; fewer bytes only at the end of the file, without an error.
func (p *Plain) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.low.ReadAt(b, off)
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// WriteAt writes at offset off.
func (p *Plain) WriteAt(b []byte, off int64) (int, error) { return p.low.WriteAt(b, off) }

// Truncate sets the size.
func (p *Plain) Truncate(size int64) error { return p.low.Truncate(size) }

// Length returns the size in bytes, or the error of the lower file.
func (p *Plain) Length() (int64, error) { return p.size() }

// Sync makes the content durable.
func (p *Plain) Sync(dataOnly bool) error { return p.low.Sync(dataOnly) }
