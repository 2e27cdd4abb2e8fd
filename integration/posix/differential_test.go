package posix

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"golang.org/x/sys/unix"
)

// twins is one tree twice: in the view and on plain ext4. Every operation is done on both and must give the same answer.
type twins struct {
	t     *testing.T
	roots [2]string
	r     *rand.Rand
	open  [][2]*os.File
	last  []string
}

// some picks a path among few names, so that operations meet.
func (w *twins) some() string {
	names := []string{"a", "b", "c", strings.Repeat("l", 200), strings.Repeat("m", 255), "mc1=x", "dir"}
	dirs := []string{"", "dir/", "dir/dir/", "cur/"}
	return dirs[w.r.IntN(len(dirs))] + names[w.r.IntN(len(names))]
}

// both does something with both trees and compares what comes back.
func (w *twins) both(what string, do func(root string, i int) string) {
	w.t.Helper()
	w.last = append(w.last, what)
	w.last = w.last[max(0, len(w.last)-12):]
	view, plain := do(w.roots[0], 0), do(w.roots[1], 1)
	if view != plain {
		i := 0
		for i < min(len(view), len(plain)) && view[i] == plain[i] {
			i++
		}
		i = max(0, i-150)
		w.t.Fatalf("%s: the view says …%s, ext4 says …%s\nthe last operations: %s", what, short(view[i:]), short(plain[i:]), short(fmt.Sprint(w.last)))
	}
}

// short is a text for a report, without the length of long names.
func short(s string) string {
	for _, c := range []string{"l", "m"} {
		s = regexp.MustCompile(c+"{20,}").ReplaceAllString(s, "<"+c+">")
	}
	return fmt.Sprintf("%.600q", s)
}

func answer(err error) string {
	var number unix.Errno
	if errors.As(err, &number) {
		return unix.ErrnoName(number)
	}
	return fmt.Sprint(err)
}

func (w *twins) step() {
	w.t.Helper()
	a, b := w.some(), w.some()
	n, off := w.r.IntN(9000), int64(w.r.IntN(12000))
	data := noise(w.r.Uint64(), n)
	flags := uint(0)
	if w.r.IntN(4) == 0 {
		flags = unix.RENAME_NOREPLACE
	}
	mode := []uint32{0o600, 0o644, 0o755, 0o2770, 0o1777}[w.r.IntN(5)]
	type op struct {
		name string
		do   func(root string, i int) string
	}
	path := func(root, rel string) string { return root + "/" + rel }
	ops := []op{
		{"create " + a, func(root string, _ int) string { return answer(os.WriteFile(path(root, a), data, 0o644)) }},
		{"create " + a, func(root string, _ int) string { return answer(os.WriteFile(path(root, a), data[:n/10], 0o600)) }},
		{"mkdir " + a, func(root string, _ int) string { return answer(unix.Mkdir(path(root, a), 0o755)) }},
		{"rmdir " + a, func(root string, _ int) string { return answer(unix.Rmdir(path(root, a))) }},
		{"unlink " + a, func(root string, _ int) string { return answer(unix.Unlink(path(root, a))) }},
		{"symlink " + a, func(root string, _ int) string { return answer(unix.Symlink(b, path(root, a))) }},
		{"link " + a + " " + b, func(root string, _ int) string { return answer(unix.Link(path(root, a), path(root, b))) }},
		{"rename " + a + " " + b, func(root string, _ int) string {
			return answer(unix.Renameat2(unix.AT_FDCWD, path(root, a), unix.AT_FDCWD, path(root, b), flags))
		}},
		{"rename " + a + " " + b, func(root string, _ int) string { return answer(unix.Rename(path(root, a), path(root, b))) }},
		{fmt.Sprint("truncate ", a, n), func(root string, _ int) string { return answer(unix.Truncate(path(root, a), int64(n))) }},
		{"chmod " + a, func(root string, _ int) string { return answer(unix.Chmod(path(root, a), mode)) }},
		{"chown " + a, func(root string, _ int) string {
			return answer(unix.Fchownat(unix.AT_FDCWD, path(root, a), n, n+1, unix.AT_SYMLINK_NOFOLLOW))
		}},
		{"utimes " + a, func(root string, _ int) string {
			ts := []unix.Timespec{{Sec: off}, {Sec: int64(n), Nsec: off}}
			return answer(unix.UtimesNanoAt(unix.AT_FDCWD, path(root, a), ts, unix.AT_SYMLINK_NOFOLLOW))
		}},
		{"setxattr " + a, func(root string, _ int) string {
			return answer(unix.Lsetxattr(path(root, a), "user.x", data[:min(n, 100)], 0))
		}},
		{"getxattr " + a, func(root string, _ int) string {
			v, err := getxattr(path(root, a), "user.x")
			return string(v) + answer(err)
		}},
		{"read " + a, func(root string, _ int) string {
			b, err := os.ReadFile(path(root, a))
			return string(b) + answer(err)
		}},
		{fmt.Sprint("write ", a, n, off), func(root string, _ int) string { return answer(writeAt(path(root, a), data, off)) }},
		{fmt.Sprint("append ", a, n), func(root string, _ int) string { return answer(writeAt(path(root, a), data, -1)) }},
		{"socket " + a, func(root string, _ int) string { return answer(unix.Mknod(path(root, a), unix.S_IFSOCK|0o600, 0)) }},
		{"access " + a, func(root string, _ int) string { return answer(unix.Access(path(root, a), unix.R_OK)) }},
		{"exclusive " + a, func(root string, _ int) string {
			fd, err := unix.Open(path(root, a), unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_NONBLOCK, mode)
			if err == nil {
				err = unix.Close(fd)
			}
			return answer(err)
		}},
		{"list", func(root string, _ int) string { return shape(w.t, root) }},
	}
	switch o := ops[w.r.IntN(len(ops))]; {
	case w.r.IntN(8) == 0:
		w.handle(a, data, off)
	default:
		w.both(o.name, o.do)
	}
}

// writeAt writes into an existing regular file; -1 appends.
func writeAt(path string, data []byte, off int64) error {
	flags := unix.O_WRONLY | unix.O_NONBLOCK
	if off < 0 {
		flags |= unix.O_APPEND
	}
	fd, err := unix.Open(path, flags, 0)
	if err != nil {
		return err
	}
	if off < 0 {
		_, err = unix.Write(fd, data)
	} else {
		_, err = unix.Pwrite(fd, data, off)
	}
	return errors.Join(err, unix.Close(fd))
}

// handle opens a file for later, or uses or closes one that is open, whatever has become of its name.
func (w *twins) handle(rel string, data []byte, off int64) {
	w.t.Helper()
	if len(w.open) < 6 && w.r.IntN(2) == 0 {
		var pair [2]*os.File
		w.both("open "+rel, func(root string, i int) string {
			f, err := os.OpenFile(root+"/"+rel, os.O_RDWR|unix.O_NONBLOCK, 0)
			pair[i] = f
			return answer(err)
		})
		if pair[0] != nil {
			w.open = append(w.open, pair)
		}
		return
	}
	if len(w.open) == 0 {
		return
	}
	i := w.r.IntN(len(w.open))
	pair := w.open[i]
	regular := fstat(w.t, pair[0]).Mode&unix.S_IFMT == unix.S_IFREG
	switch n := w.r.IntN(5); {
	case n == 0 || !regular:
		w.both("close "+rel, func(_ string, i int) string { return answer(pair[i].Close()) })
		w.open = slices.Delete(w.open, i, i+1)
	case n == 1:
		w.both("handle write", func(_ string, i int) string {
			_, err := pair[i].WriteAt(data, off)
			return answer(err)
		})
	case n == 2:
		w.both("handle truncate", func(_ string, i int) string { return answer(pair[i].Truncate(off)) })
	case n == 3:
		w.both("handle fsync", func(_ string, i int) string { return answer(pair[i].Sync()) })
	default:
		w.both("handle read", func(_ string, i int) string {
			b, err := io.ReadAll(io.NewSectionReader(pair[i], 0, 1<<30))
			st := fstat(w.t, pair[i])
			return fmt.Sprint(string(b), answer(err), st.Size, st.Nlink, st.Mode, st.Uid, st.Gid)
		})
	}
}

// shape is everything that one can see of a tree but times that were not set.
func shape(t *testing.T, root string) string {
	t.Helper()
	var b bytes.Buffer
	must(t, filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st := stat(t, path)
		rel, _ := filepath.Rel(root, path)
		size := st.Size
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			size = 0
		}
		target, _ := os.Readlink(path)
		fmt.Fprintf(&b, "%q %o %d %d:%d %d %q", rel, st.Mode, st.Nlink, st.Uid, st.Gid, size, target)
		n, err := unix.Llistxattr(path, make([]byte, 1000))
		fmt.Fprint(&b, " attributes ", n, answer(err))
		if st.Mtim.Sec < 1e6 { // set by us
			fmt.Fprint(&b, st.Mtim)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFREG {
			content, err := os.ReadFile(path)
			fmt.Fprintf(&b, " %x %v", content, err)
		}
		b.WriteByte('\n')
		return nil
	}))
	return b.String()
}

// closeAll closes what handle has left open.
func (w *twins) closeAll() {
	for _, pair := range w.open {
		must(w.t, errors.Join(pair[0].Close(), pair[1].Close()))
	}
	w.open = nil
}

// forget has the kernel forget the inodes of a view that nobody uses, as it does when memory is short: a remount does it for
// one filesystem, and changes nothing else.
func forget(t *testing.T, view string) {
	t.Helper()
	must(t, unix.Mount("", view, "", unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NODEV, ""))
}

// TestDifferential does the same random operations in the view and on ext4, and compares every answer and the trees, over
// restarts of the daemon. Files move between places of both classes, so that conversions run meanwhile, and the kernel
// forgets inodes at any moment.
func TestDifferential(t *testing.T) {
	plain, _ := harness.Image{}.Mounted(t)
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	mkdir(t, s.View, "alice")
	for seed := range uint64(6) {
		name := fmt.Sprint("seed-", seed)
		w := &twins{t: t, r: rand.New(rand.NewPCG(seed, 5)), roots: [2]string{mkdir(t, s.View, "alice", name), mkdir(t, plain, name)}}
		for _, root := range w.roots {
			mkdir(t, root, "cur")
			mkdir(t, root, "dir")
		}
		t.Cleanup(w.closeAll)
		for range 2 {
			for i := range 700 {
				if i%10 == 0 {
					forget(t, s.View)
				}
				w.step()
			}
			w.closeAll()
			w.both("whole tree", func(root string, _ int) string { return shape(t, root) })
			s.Stop(t)
			s.Serve(t)
			w.both("whole tree after a restart", func(root string, _ int) string { return shape(t, root) })
		}
	}
}
