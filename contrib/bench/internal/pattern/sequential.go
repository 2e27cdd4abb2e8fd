package pattern

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

const chunk = 128 << 10

// sequential returns the patterns on one large file; an operation is one chunk. Opening counts into the first chunk,
// closing into the last.
func sequential(size int) []Pattern {
	chunks := size / chunk
	workers := []int{1}
	return []Pattern{
		{
			Name: "seq-write", Doc: "write a large message in chunks of 128 KiB, no sync",
			MinOps: chunks, MaxOps: chunks, Workers: workers, Bytes: chunk, Goals: map[int]float64{1: 0.35}, Start: writeLarge,
		},
		{
			Name: "seq-read-first", Doc: "read it in chunks of 128 KiB, nothing cached",
			MinOps: chunks, MaxOps: chunks, Workers: workers, Cold: true, Bytes: chunk, Goals: map[int]float64{1: 0.75},
			Start: func(b *Box, _ int) (*Run, error) { return readLarge(b, chunks) },
		},
		{
			Name: "seq-read-warm", Doc: "open it again and read it in chunks of 128 KiB, read before",
			MinOps: chunks, MaxOps: 16 * chunks, Workers: workers, WarmOps: chunks, Bytes: chunk, Goals: map[int]float64{1: 0.9},
			Start: func(b *Box, _ int) (*Run, error) { return readLarge(b, chunks) },
		},
	}
}

func writeLarge(b *Box, n int) (*Run, error) {
	path, fd := b.path("cur", messageName(1, n*chunk)+":2,"), -1
	op := func(i int) (err error) {
		if i == 0 {
			if fd, err = open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL); err != nil {
				return err
			}
		}
		if err := write(fd, b.body[i%8*4096:][:chunk]); err != nil || i < n-1 {
			return err
		}
		return closing(fd, nil)
	}
	return &Run{op, func() error {
		return errors.Join(expectSize(path, int64(n)*chunk), unlink(path))
	}}, nil
}

// readLarge reads a file of so many chunks, from its beginning as often as asked.
func readLarge(b *Box, chunks int) (*Run, error) {
	path, err := b.largeFixture(chunks)
	if err != nil {
		return nil, err
	}
	const closed = -1
	fd := closed
	shut := func() error {
		was := fd
		fd = closed
		if was == closed {
			return nil
		}
		return closing(was, nil)
	}
	op := func(i int) (err error) {
		i %= chunks
		if i == 0 {
			if fd, err = open(path, unix.O_RDONLY); err != nil {
				return err
			}
		}
		got, err := unix.Read(fd, b.buf[:chunk])
		if err == nil && (got != chunk || b.buf[0] != b.body[i%8*4096]) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return named("read", path, err)
		}
		if i == chunks-1 {
			return shut()
		}
		return nil
	}
	return &Run{op, shut}, nil
}

// largeFixture makes, once, the file that readLarge reads.
func (b *Box) largeFixture(chunks int) (string, error) {
	const folder = ".Large"
	if err := b.folder(folder); err != nil {
		return "", err
	}
	path := b.path(folder, "cur", messageName(1, chunks*chunk)+":2,")
	if b.fixtures[folder] == chunks {
		return path, nil
	}
	fd, err := open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
	if err != nil {
		return "", err
	}
	for i := 0; i < chunks && err == nil; i++ {
		err = write(fd, b.body[i%8*4096:][:chunk])
	}
	b.fixtures[folder] = chunks
	return path, closing(fd, err)
}
