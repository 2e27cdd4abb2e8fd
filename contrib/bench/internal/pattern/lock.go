package pattern

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func locks() []Pattern {
	goals := map[int]float64{1: 0.12, 16: 0.14}
	return []Pattern{
		{
			Name: "dotlock-excl", Doc: "create uidlist.lock with O_EXCL, write pid:host, close, lstat, unlink",
			MinOps: 100, MaxOps: 10000, Workers: Parallel(), Goals: goals, Start: lockExclusive,
		},
		{
			Name: "dotlock-link", Doc: "create a temporary file, link it to the lock, stat it (nlink must be 2), unlink both",
			MinOps: 100, MaxOps: 10000, Workers: Parallel(), Goals: goals, Start: lockLinked,
		},
	}
}

// lockExclusive is how Dovecot locks its uidlist.
func lockExclusive(b *Box, _ int) (*Run, error) {
	path, owner := b.path("dovecot-uidlist.lock"), []byte("4711:mx.example.org")
	op := func(int) error {
		if err := create(path, owner, false); err != nil {
			return err
		}
		st, err := stat(path)
		if err != nil {
			return err
		}
		if st.Size != int64(len(owner)) {
			return fmt.Errorf("%s has %d bytes, want %d", path, st.Size, len(owner))
		}
		return unlink(path)
	}
	return &Run{op, func() error { return absent(path) }}, nil
}

// lockLinked is the older way, safe on every network filesystem.
func lockLinked(b *Box, n int) (*Run, error) {
	lock, owner := b.path("mailboxes.lock"), []byte("4711:mx.example.org")
	temporary := make([]string, n)
	for i := range temporary {
		temporary[i] = b.path(fmt.Sprintf("mailboxes.lock.mx.example.org.4711.%08x", i))
	}
	op := func(i int) error {
		if err := create(temporary[i], owner, false); err != nil {
			return err
		}
		if err := link(temporary[i], lock); err != nil {
			return err
		}
		st, err := stat(temporary[i])
		if err != nil {
			return err
		}
		if st.Nlink != 2 {
			return fmt.Errorf("%s has %d links, want 2", temporary[i], st.Nlink)
		}
		if err := unlink(temporary[i]); err != nil {
			return err
		}
		return unlink(lock)
	}
	return &Run{op, func() error { return absent(lock) }}, nil
}

func absent(path string) error {
	if err := unix.Lstat(path, &unix.Stat_t{}); err != unix.ENOENT {
		return &os.PathError{Op: "lstat (the file should be gone)", Path: path, Err: err}
	}
	return nil
}
