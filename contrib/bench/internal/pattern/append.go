package pattern

import (
	"errors"

	"golang.org/x/sys/unix"
)

const logStart = 10 << 10 // bytes of a log that is appended to, before

func appends() []Pattern {
	return []Pattern{
		{
			Name: "append-fdatasync", Doc: "write 200 B to an index log held open with O_APPEND, fdatasync",
			MinOps: 32, MaxOps: 2000, Workers: Parallel(), Goals: map[int]float64{1: 1.0, 16: 0.7},
			Start: func(b *Box, n int) (*Run, error) { return appendOpen(b, n, true) },
		},
		{
			Name: "append", Doc: "the same without sync",
			MinOps: 200, MaxOps: 50000, Workers: Parallel(),
			Start: func(b *Box, n int) (*Run, error) { return appendOpen(b, n, false) },
		},
		{
			Name: "reopen-append", Doc: "open with O_APPEND, write 200 B, close",
			MinOps: 100, MaxOps: 20000, Workers: Parallel(), Goals: map[int]float64{1: 0.08, 16: 0.09},
			Start: reopenAppend,
		},
	}
}

func appendOpen(b *Box, n int, sync bool) (*Run, error) {
	path := b.path("dovecot.index.log")
	if err := create(path, b.message(logStart), true); err != nil {
		return nil, err
	}
	fd, err := open(path, unix.O_RDWR|unix.O_APPEND)
	if err != nil {
		return nil, err
	}
	data := b.message(record)
	op := func(int) error {
		if err := write(fd, data); err != nil || !sync {
			return err
		}
		return named("fdatasync", path, unix.Fdatasync(fd))
	}
	return &Run{op, func() error {
		return errors.Join(closing(fd, expectSize(path, logStart+int64(n)*record)), unlink(path))
	}}, nil
}

func reopenAppend(b *Box, n int) (*Run, error) {
	path := b.path("dovecot-uidlist")
	if err := create(path, b.message(logStart), false); err != nil {
		return nil, err
	}
	data := b.message(record)
	op := func(int) error {
		fd, err := open(path, unix.O_WRONLY|unix.O_APPEND)
		if err != nil {
			return err
		}
		return closing(fd, write(fd, data))
	}
	return &Run{op, func() error {
		return errors.Join(expectSize(path, logStart+int64(n)*record), unlink(path))
	}}, nil
}
