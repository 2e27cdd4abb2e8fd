package leaktest

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Searched counts what was looked at.
type Searched struct {
	Entries int64 `json:"entries"` // names
	Files   int64 `json:"files"`   // contents
	Bytes   int64 `json:"bytes"`
	Skipped int64 `json:"skipped"` // gone, or not readable, when it was its turn
}

// Walk is a search over directories and devices.
type Walk struct {
	Searcher *Searcher
	Skip     []string // paths that are not gone into: the view
	Hit      func(Hit)
	Progress func(Searched) // called now and then; may be nil
	Searched Searched

	buf []byte
}

// Tree searches names, link targets, extended attributes and contents of all that lies below root, on the filesystem of
// root only. A root that does not exist has nothing in it.
func (w *Walk) Tree(ctx context.Context, root string) error {
	var st unix.Stat_t
	if err := unix.Stat(root, &st); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		return fmt.Errorf("cannot search %s: %w", root, err)
	}
	return filepath.WalkDir(root, func(path string, d iofs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if path == root {
				return fmt.Errorf("cannot search it: %w", err)
			}
			w.Searched.Skipped++ // gone meanwhile
			return nil
		}
		if d.IsDir() && (slices.Contains(w.Skip, path) || path != root && !sameDevice(path, st.Dev)) {
			return filepath.SkipDir
		}
		w.entry(path, d)
		return nil
	})
}

func sameDevice(path string, dev uint64) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil && st.Dev == dev
}

func (w *Walk) entry(path string, d iofs.DirEntry) {
	w.Searched.Entries++
	w.hits(w.Searcher.Bytes([]byte(d.Name()), "name", path))
	w.hits(w.Searcher.Bytes(xattrs(path), "extended attribute", path))
	switch {
	case d.Type()&iofs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		if err != nil {
			w.Searched.Skipped++
			return
		}
		w.hits(w.Searcher.Bytes([]byte(target), "target of a link", path))
	case d.Type().IsRegular():
		if err := w.file(path); err != nil {
			w.Searched.Skipped++
		}
	}
}

// file searches a regular file. Its times stay as they are where the kernel allows it.
func (w *Walk) file(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOATIME, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	w.Searched.Files++
	return w.read(f, "content", path)
}

// Device searches every byte of a block device, or of a file that holds an image.
func (w *Walk) Device(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Mode()&iofs.ModeDevice != 0 {
		// What the kernel has cached of the device may be older than what a filesystem wrote to it.
		_ = unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0) // not every device has a cache
	}
	return w.read(&interruptible{ctx, f}, "device", path)
}

type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i *interruptible) Read(b []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.r.Read(b)
}

func (w *Walk) read(r io.Reader, what, where string) error {
	if w.buf == nil {
		w.buf = w.Searcher.Buffer()
	}
	hits, err := w.Searcher.Read(r, what, where, w.buf, func(n int) {
		w.Searched.Bytes += int64(n)
		if w.Progress != nil {
			w.Progress(w.Searched)
		}
	})
	w.hits(hits)
	return err
}

func (w *Walk) hits(all []Hit) {
	for _, h := range all {
		w.Hit(h)
	}
}

// xattrs joins the names and values of all extended attributes of an entry.
func xattrs(path string) []byte {
	if n, err := unix.Llistxattr(path, nil); err != nil || n == 0 {
		return nil
	}
	names := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, names)
	if err != nil {
		return nil
	}
	all := names[:n:n]
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(string(names[:n]), "\x00") {
		if n, err := unix.Lgetxattr(path, name, value); err == nil && name != "" {
			all = append(append(all, 0), value[:n]...)
		}
	}
	return all
}
