package content

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPlainLength has the size of a plain file untold: it must not pass for an empty one.
func TestPlainLength(t *testing.T) {
	t.Parallel()
	p := NewPlain(nil, func() (int64, error) { return 0, unix.EIO })
	if n, err := p.Length(); !errors.Is(err, unix.EIO) {
		t.Errorf("%d bytes, %v", n, err)
	}
}
