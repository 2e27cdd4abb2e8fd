package audit

import (
	"bufio"
	"errors"
	"io"
)

// lines reads a segment line by line, in bounded memory whatever it holds.
type lines struct{ r *bufio.Reader }

func newLines(r io.Reader) *lines { return &lines{bufio.NewReaderSize(r, maxLine)} }

// next returns a line with its newline, and its length; nil for one that is longer than any that we write. What stands
// after the last newline is no line: its length comes with io.EOF. The slice is valid until the next call.
func (l *lines) next() (b []byte, n int64, err error) {
	long := false
	for {
		b, err := l.r.ReadSlice('\n')
		n += int64(len(b))
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			long = true
		case err != nil:
			return nil, n, err
		case long:
			return nil, n, nil
		default:
			return b, n, nil
		}
	}
}
