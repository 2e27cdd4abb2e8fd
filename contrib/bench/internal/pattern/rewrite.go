package pattern

import (
	"bytes"
	"errors"
	"fmt"
	"os"
)

const indexSize = 8 << 10

func rewrites() []Pattern {
	return []Pattern{{
		Name: "rewrite", Doc: "write an 8 KiB index to a temporary file, rename it over the old one, read it back",
		MinOps: 100, MaxOps: 5000, Workers: Parallel(), Start: rewrite,
	}}
}

func rewrite(b *Box, n int) (*Run, error) {
	path, temporary := b.path("dovecot.index"), b.path("dovecot.index.tmp")
	bodies := make([][]byte, n)
	for i := range bodies {
		bodies[i] = b.message(indexSize)
	}
	op := func(i int) error {
		if err := create(temporary, bodies[i], false); err != nil {
			return err
		}
		if err := rename(temporary, path); err != nil {
			return err
		}
		return readOnce(path, b.buf, indexSize)
	}
	finish := func() error {
		got, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, bodies[n-1]) {
			err = fmt.Errorf("%s does not hold what was written last", path)
		}
		return errors.Join(err, unlink(path))
	}
	return &Run{op, finish}, nil
}
