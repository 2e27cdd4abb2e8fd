package tree

import (
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/content"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/seal"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// TestErrno walks the errors that can reach a caller, bare and wrapped. ENOSYS must
// be out of reach: after it the kernel never sends that request again, fsync included.
func TestErrno(t *testing.T) {
	for _, c := range []struct {
		err  error
		want unix.Errno
	}{
		{nil, 0},
		{unix.ENOSPC, unix.ENOSPC},
		{unix.EDQUOT, unix.EDQUOT},
		{unix.EIO, unix.EIO},
		{unix.ENOENT, unix.ENOENT},
		{unix.EXDEV, unix.EXDEV},
		{unix.ENOSYS, unix.EIO},
		{unix.Errno(0), unix.EIO},
		{secret.ErrLocked, unix.EACCES},
		{secret.ErrUnknownKey, unix.EIO},
		{secret.ErrNotEnrolled, unix.EIO},
		{secret.ErrMemory, unix.EIO},
		{secret.ErrWiped, unix.EIO},
		{format.ErrCorrupt, unix.EIO},
		{format.ErrUnsupported, unix.EIO},
		{seal.ErrName, unix.EIO},
		{content.ErrTooLarge, unix.EFBIG},
		{keyError{unix.ENOENT}, unix.EIO},
		{keyError{unix.ENOTDIR}, unix.EIO},
		{keyError{&os.PathError{Op: "open", Path: "x", Err: unix.ELOOP}}, unix.EIO},
		{keyError{unix.ENOSPC}, unix.ENOSPC},
		{keyError{secret.ErrLocked}, unix.EACCES},
		{errStale, unix.ESTALE},
		{unix.ESTALE, unix.ESTALE},
		{errBroken, unix.EIO},
		{errPlain, unix.EACCES},
		{ErrBusy, unix.EIO},
		{io.EOF, unix.EIO},
		{io.ErrUnexpectedEOF, unix.EIO},
		{os.ErrNotExist, unix.EIO}, // none of ours, and no errno
		{&os.PathError{Op: "open", Path: "x", Err: unix.ENOENT}, unix.ENOENT},
	} {
		if got := Errno(c.err); got != c.want {
			t.Errorf("Errno(%v) = %v, want %v", c.err, got, c.want)
		}
		if c.err == nil {
			continue
		}
		if got := Errno(fmt.Errorf("cannot do it: %w", c.err)); got != c.want {
			t.Errorf("wrapped, Errno(%v) = %v, want %v", c.err, got, c.want)
		}
		if want := c.want == unix.ENOENT || errors.Is(c.err, errStale); Gone(c.err) != want {
			t.Errorf("Gone(%v) = %v", c.err, !want)
		}
	}
}
