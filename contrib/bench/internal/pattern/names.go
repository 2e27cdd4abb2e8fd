package pattern

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const missing = 100 // names that are asked for and are not there

func names() []Pattern {
	return []Pattern{
		{
			Name: "flag-rename", Doc: "rename a message in cur/ to set or clear a flag",
			MinOps: 100, MaxOps: 20000, Workers: Parallel(), Goals: map[int]float64{1: 0.13, 16: 0.16}, Start: flagRename,
		},
		{
			Name: "link", Doc: "link a message into another folder (COPY)",
			MinOps: 100, MaxOps: 5000, Workers: Parallel(), Start: linkMessages,
		},
		{
			Name: "unlink", Doc: "unlink a message (EXPUNGE)",
			MinOps: 100, MaxOps: 2000, Workers: Parallel(), Start: unlinkMessages,
		},
		{
			Name: "stat-hit", Doc: "lstat of a message that is there",
			MinOps: 200, MaxOps: 200000, Workers: Parallel(), WarmOps: warmMessages, Start: statHit,
		},
		{
			Name: "stat-miss", Doc: "lstat of a name that is not there, one of 100 again and again",
			MinOps: 200, MaxOps: 200000, Workers: Parallel(), WarmOps: missing, Goals: map[int]float64{1: 0.8, 16: 0.8}, Start: statMiss,
		},
	}
}

func flagRename(b *Box, n int) (*Run, error) {
	clean, err := b.fixture(".Warm", warmMessages, messageSize)
	op := func(i int) error {
		path := clean[i%len(clean)]
		if i/len(clean)%2 == 0 {
			return rename(path, path+"S")
		}
		return rename(path+"S", path)
	}
	finish := func() error {
		for i, path := range clean {
			if times := (n - i + len(clean) - 1) / len(clean); times%2 == 1 {
				if err := rename(path+"S", path); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return &Run{op, finish}, err
}

func linkMessages(b *Box, n int) (*Run, error) {
	from, err := b.fixture(".Warm", warmMessages, messageSize)
	if err != nil {
		return nil, err
	}
	if err := b.folder(".Copies"); err != nil {
		return nil, err
	}
	to := make([]string, n)
	for i := range to {
		to[i] = b.path(".Copies", "cur", messageName(i, messageSize)+":2,")
	}
	op := func(i int) error { return link(from[i%len(from)], to[i]) }
	finish := func() error {
		return errors.Join(expectSize(to[n-1], messageSize), clear(b.path(".Copies", "cur"), n))
	}
	return &Run{op, finish}, nil
}

func unlinkMessages(b *Box, n int) (*Run, error) {
	if err := b.folder(".Trash"); err != nil {
		return nil, err
	}
	paths := make([]string, n)
	for i := range paths {
		paths[i] = b.path(".Trash", "cur", messageName(i, messageSize)+":2,ST")
		if err := create(paths[i], b.message(messageSize), false); err != nil {
			return nil, err
		}
	}
	op := func(i int) error { return unlink(paths[i]) }
	return &Run{op, func() error { return clear(b.path(".Trash", "cur"), 0) }}, nil
}

func statHit(b *Box, _ int) (*Run, error) {
	paths, err := b.fixture(".Warm", warmMessages, messageSize)
	op := func(i int) error {
		st, err := stat(paths[i%len(paths)])
		if err == nil && st.Size != messageSize {
			err = fmt.Errorf("%s has %d bytes, want %d", paths[i%len(paths)], st.Size, messageSize)
		}
		return err
	}
	return &Run{op, func() error { return nil }}, err
}

func statMiss(b *Box, _ int) (*Run, error) {
	paths := make([]string, missing)
	for i := range paths {
		paths[i] = b.path("cur", messageName(900000+i, messageSize))
	}
	op := func(i int) error {
		if err := unix.Lstat(paths[i%missing], &unix.Stat_t{}); !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("lstat of a missing name gave: %w", err)
		}
		return nil
	}
	return &Run{op, func() error { return nil }}, nil
}
