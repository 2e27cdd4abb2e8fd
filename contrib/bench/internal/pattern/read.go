package pattern

import (
	"io"

	"golang.org/x/sys/unix"
)

const (
	messageSize  = 10 << 10
	warmMessages = 100
	logSize      = 64 << 10
)

func reads() []Pattern {
	return []Pattern{
		{
			Name: "read-warm", Doc: "open, read 10 KiB, close; 100 messages again and again",
			MinOps: 200, MaxOps: 100000, Workers: Parallel(), WarmOps: warmMessages, Goals: map[int]float64{1: 0.12, 16: 0.12},
			Start: func(b *Box, _ int) (*Run, error) {
				paths, err := b.fixture(".Warm", warmMessages, messageSize)
				return &Run{
					Op:     func(i int) error { return readOnce(paths[i%len(paths)], b.buf, messageSize) },
					Finish: func() error { return nil },
				}, err
			},
		},
		{
			Name: "read-cold", Doc: "open, read 10 KiB, close; each message once, nothing cached",
			MinOps: 480, MaxOps: 480, Workers: Parallel(), Cold: true, Goals: map[int]float64{1: 0.42, 16: 0.35},
			Start: func(b *Box, n int) (*Run, error) {
				paths, err := b.fixture(".Cold", n, messageSize)
				return &Run{
					Op:     func(i int) error { return readOnce(paths[i], b.buf, messageSize) },
					Finish: func() error { return nil },
				}, err
			},
		},
		{
			Name: "mmap-read", Doc: "open, fstat, mmap 64 KiB shared, read every page, unmap, close",
			MinOps: 100, MaxOps: 20000, Workers: Parallel(), WarmOps: 4, Start: mapped,
		},
	}
}

func mapped(b *Box, _ int) (*Run, error) {
	path := b.path("dovecot.index.log")
	if err := create(path, b.message(logSize), false); err != nil {
		return nil, err
	}
	return &Run{
		Op:     func(int) error { return readMapped(path) },
		Finish: func() error { return unlink(path) },
	}, nil
}

// readMapped touches each page of a file of logSize bytes through a shared mapping.
func readMapped(path string) error {
	fd, err := open(path, unix.O_RDONLY)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return closing(fd, named("fstat", path, err))
	}
	if st.Size != logSize {
		return closing(fd, named("fstat", path, io.ErrUnexpectedEOF))
	}
	data, err := unix.Mmap(fd, 0, logSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return closing(fd, named("mmap", path, err))
	}
	for at := 0; at < logSize; at += 4096 {
		if data[at] < ' ' { // bodies are printable: a zero page is a wrong page
			err = io.ErrUnexpectedEOF
		}
	}
	if uerr := unix.Munmap(data); err == nil {
		err = uerr
	}
	return closing(fd, named("mmap", path, err))
}
