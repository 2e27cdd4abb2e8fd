package pattern

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

const entrySize = 300 // bytes of a message in the large folder

// listings returns the patterns on one folder with many entries; an operation is one whole listing.
func listings(entries int) []Pattern {
	workers := []int{1}
	start := func(each func(dir int, name []byte) error) func(*Box, int) (*Run, error) {
		return func(b *Box, _ int) (*Run, error) {
			if _, err := b.fixture(".Big", entries, entrySize); err != nil {
				return nil, err
			}
			return &Run{
				Op:     func(int) error { return list(b.path(".Big", "cur"), b.buf, entries, each) },
				Finish: func() error { return nil },
			}, nil
		}
	}
	n := fmt.Sprintf("%d entries", entries)
	return []Pattern{
		{
			Name: "readdir-warm", Doc: "list the names of " + n + ", listed before",
			MinOps: 1, MaxOps: 100, Workers: workers, WarmOps: 1, Goals: map[int]float64{1: 2}, Start: start(nil),
		},
		{
			Name: "readdir-cold", Doc: "list the names of " + n + ", nothing cached",
			MinOps: 1, MaxOps: 1, Workers: workers, Cold: true, Goals: map[int]float64{1: 0.6}, Start: start(nil),
		},
		{
			Name: "list-stat-warm", Doc: "list " + n + " and lstat each, done before",
			MinOps: 1, MaxOps: 20, Workers: workers, WarmOps: 1, Goals: map[int]float64{1: 0.8}, Start: start(statEntry),
		},
		{
			Name: "list-stat-cold", Doc: "list " + n + " and lstat each, nothing cached",
			MinOps: 1, MaxOps: 1, Workers: workers, Cold: true, Goals: map[int]float64{1: 0.6}, Start: start(statEntry),
		},
	}
}

// list reads a directory to its end with getdents64(2) into 32 KiB, as the C library does, and hands each name to each.
func list(path string, buf []byte, want int, each func(dir int, name []byte) error) error {
	dir, err := open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	seen := 0
	for {
		n, err := unix.Getdents(dir, buf[:32<<10])
		if err != nil {
			return closing(dir, named("getdents", path, err))
		}
		if n == 0 {
			break
		}
		count, err := walk(dir, buf[:n], each)
		if err != nil {
			return closing(dir, err)
		}
		seen += count
	}
	if seen != want {
		err = fmt.Errorf("%s lists %d entries, want %d", path, seen, want)
	}
	return closing(dir, err)
}

// walk goes through a buffer of struct linux_dirent64 (getdents(2)): d_reclen at 16, d_name from 19, NUL-terminated.
func walk(dir int, buf []byte, each func(dir int, name []byte) error) (int, error) {
	count := 0
	for len(buf) > 0 {
		size := int(binary.NativeEndian.Uint16(buf[16:]))
		name := buf[19:size]
		buf = buf[size:]
		if name[0] == '.' && (name[1] == 0 || name[1] == '.' && name[2] == 0) {
			continue
		}
		count++
		if each == nil {
			continue
		}
		if err := each(dir, name); err != nil {
			return count, err
		}
	}
	return count, nil
}

func statEntry(dir int, name []byte) error {
	var st unix.Stat_t
	text := unix.ByteSliceToString(name)
	if err := unix.Fstatat(dir, text, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return named("fstatat", text, err)
	}
	if st.Size != entrySize {
		return fmt.Errorf("%s has %d bytes, want %d", text, st.Size, entrySize)
	}
	return nil
}
