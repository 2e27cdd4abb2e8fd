package export

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// check refuses a path that could lead out of the destination. Names of the view cannot; those that come out of files can.
func check(path []string) error {
	for _, c := range path {
		if c == "" || c == "." || c == ".." || strings.ContainsAny(c, "/\x00") || len(c) > 255 {
			return fmt.Errorf("%q cannot be the name of a file", c)
		}
	}
	return nil
}

func show(path []string) string { return strings.Join(path, "/") }

func join(path []string, names ...string) []string {
	return append(path[:len(path):len(path)], names...)
}

func short(n, size int64) error {
	if n == size {
		return nil
	}
	return fmt.Errorf("it ends after %d of %d bytes", n, size)
}

func newBytes(b []byte) io.Reader { return bytes.NewReader(b) }

// gone tells whether an entry of the store was removed or renamed since it was listed.
func gone(err error) bool {
	return (errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESTALE)) && !errors.Is(err, errDest)
}
