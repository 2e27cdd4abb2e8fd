package posix

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// edges are sizes around the edges of pages and of stored blocks (FORMAT.md C4: 4010 bytes, then 4066 each).
func edges() []int64 {
	var all []int64
	for _, n := range []int64{0, 4010, 4096, 4010 + 4066, 8192, 4010 + 2*4066, 16384, 4010 + 40*4066, 1 << 18} {
		for d := int64(-1); d <= 1; d++ {
			if n+d >= 0 {
				all = append(all, n+d)
			}
		}
	}
	return all
}

// testSparse: what lies between two writes is zero, however far they are apart.
func testSparse(t *testing.T, p *place) {
	for _, off := range append(edges(), 3<<20) {
		path := p.path("at-%d", off)
		f := open(t, path, os.O_CREATE|os.O_RDWR)
		_, err := f.WriteAt([]byte("x"), off)
		must(t, err)
		want := append(make([]byte, off), 'x')
		expect(t, path, want)
		must(t, f.Close())
		expect(t, path, want)
	}
	if p.refresh != nil {
		p.refresh(t)
		for _, off := range append(edges(), 3<<20) {
			expect(t, p.path("at-%d", off), append(make([]byte, off), 'x'))
		}
	}
}

// testTruncateSizes cuts and extends files between all edges, by path and by handle, with a mapping and without.
func testTruncateSizes(t *testing.T, p *place) {
	full := noise(20, 1<<18+1)
	path := p.path("f")
	sizes := edges()
	for i, from := range sizes {
		for j, to := range sizes {
			if (i+j)%3 != 0 {
				continue
			}
			write(t, path, full[:from])
			if j%2 == 0 {
				must(t, os.Truncate(path, to))
			} else {
				f, err := os.OpenFile(path, os.O_RDWR, 0)
				must(t, err)
				must(t, f.Truncate(to))
				must(t, f.Close())
			}
			want := append(bytes.Clone(full[:min(from, to)]), make([]byte, max(0, to-from))...)
			expect(t, path, want)
		}
	}
	f := open(t, path, os.O_RDONLY)
	if err := unix.Ftruncate(int(f.Fd()), 1); !errors.Is(err, unix.EINVAL) {
		t.Errorf("ftruncate of a reading handle: %v, want EINVAL", err)
	}
	if err := os.Truncate(p.dir, 0); !errors.Is(err, unix.EISDIR) {
		t.Errorf("truncate of a directory: %v, want EISDIR", err)
	}
}

func testFallocate(t *testing.T, p *place) {
	path := p.path("f")
	want := noise(21, 5000)
	write(t, path, want)
	f := open(t, path, os.O_RDWR)
	fd := int(f.Fd())
	must(t, unix.Fallocate(fd, 0, 100, 1000)) // inside: changes nothing
	expect(t, path, want)
	must(t, unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 4000, 100000))
	expect(t, path, want)
	must(t, unix.Fallocate(fd, 0, 4000, 20000))
	want = append(want, make([]byte, 19000)...)
	expect(t, path, want)
	_, err := f.WriteAt([]byte("x"), 23999)
	must(t, err)
	want[23999] = 'x'
	must(t, f.Sync())
	expect(t, path, want)
	for name, mode := range map[string]uint32{
		"punch":    unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
		"zero":     unix.FALLOC_FL_ZERO_RANGE,
		"collapse": unix.FALLOC_FL_COLLAPSE_RANGE,
	} {
		off, n := int64(4096), int64(4096)
		switch err := unix.Fallocate(fd, mode, off, n); {
		case errors.Is(err, unix.EOPNOTSUPP):
		case err != nil:
			t.Errorf("%s: %v, want success or EOPNOTSUPP", name, err)
		case name == "collapse":
			want = append(want[:off], want[off+n:]...)
		default:
			clear(want[off : off+n])
		}
		expect(t, path, want)
	}
	if err := unix.Fallocate(fd, 0, -1, 10); !errors.Is(err, unix.EINVAL) {
		t.Errorf("negative offset: %v", err)
	}
}

// random is a file and what it must contain, in the manner of fsx.
type random struct {
	t     *testing.T
	path  string
	f     *os.File
	model []byte
	r     *rand.Rand
	last  []string // the latest operations, for the report
}

const randomMax = 300000

func (x *random) note(format string, args ...any) {
	x.last = append(x.last, fmt.Sprintf(format, args...))
	x.last = x.last[max(0, len(x.last)-20):]
}

func (x *random) fail(format string, args ...any) {
	x.t.Helper()
	x.t.Fatalf("%s\nthe last operations: %q", fmt.Sprintf(format, args...), x.last)
}

func (x *random) resize(n int) {
	if n > len(x.model) {
		x.model = append(x.model, make([]byte, n-len(x.model))...)
	}
	x.model = x.model[:n]
}

// offset prefers edges and the end of the file.
func (x *random) offset() int {
	switch x.r.IntN(4) {
	case 0:
		return len(x.model)
	case 1:
		e := edges()
		return int(e[x.r.IntN(len(e))])
	default:
		return x.r.IntN(len(x.model) + 5000)
	}
}

func (x *random) write(mapped bool) {
	off, n := x.offset(), 1+x.r.IntN([]int{10, 5000, 70000}[x.r.IntN(3)])
	if off+n > randomMax {
		return
	}
	data := noise(x.r.Uint64(), n)
	if mapped {
		n = min(n, len(x.model)-off)
		if n <= 0 {
			return
		}
		x.note("store %d at %d", n, off)
		m, err := unix.Mmap(int(x.f.Fd()), 0, len(x.model), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			x.fail("mmap: %v", err)
		}
		copy(m[off:off+n], data)
		if err := errors.Join(unix.Msync(m, unix.MS_SYNC), unix.Munmap(m)); err != nil {
			x.fail("msync, munmap: %v", err)
		}
	} else {
		x.note("write %d at %d", n, off)
		if got, err := x.f.WriteAt(data, int64(off)); err != nil || got != n {
			x.fail("write: %d, %v", got, err)
		}
	}
	x.resize(max(len(x.model), off+n))
	copy(x.model[off:], data[:n])
}

func (x *random) read() {
	off, n := x.offset(), 1+x.r.IntN(70000)
	buf := make([]byte, n)
	got, _ := x.f.ReadAt(buf, int64(off))
	want := x.model[min(off, len(x.model)):min(off+n, len(x.model))]
	if !bytes.Equal(buf[:got], want) {
		x.fail("read at %d: %s", off, difference(buf[:got], want))
	}
}

func (x *random) truncate() {
	n := min(x.offset(), randomMax)
	x.note("truncate to %d", n)
	if err := x.f.Truncate(int64(n)); err != nil {
		x.fail("truncate: %v", err)
	}
	x.resize(n)
}

func (x *random) fallocate() {
	off, n := x.offset(), 1+x.r.IntN(20000)
	if off+n > randomMax {
		return
	}
	x.note("fallocate %d at %d", n, off)
	if err := unix.Fallocate(int(x.f.Fd()), 0, int64(off), int64(n)); err != nil {
		x.fail("fallocate: %v", err)
	}
	x.resize(max(len(x.model), off+n))
}

func (x *random) reopen() {
	x.note("reopen")
	if x.f != nil {
		if err := x.f.Close(); err != nil {
			x.fail("close: %v", err)
		}
	}
	f, err := os.OpenFile(x.path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		x.fail("open: %v", err)
	}
	x.f = f
}

func (x *random) check() {
	x.t.Helper()
	got, err := os.ReadFile(x.path)
	if err != nil || !bytes.Equal(got, x.model) {
		x.fail("the whole file: %v, %s", err, difference(got, x.model))
	}
	if st := stat(x.t, x.path); st.Size != int64(len(x.model)) {
		x.fail("size %d, want %d", st.Size, len(x.model))
	}
}

func (x *random) step() {
	switch n := x.r.IntN(100); {
	case n < 35:
		x.write(false)
	case n < 50:
		x.write(true)
	case n < 75:
		x.read()
	case n < 83:
		x.truncate()
	case n < 86:
		x.fallocate()
	case n < 90:
		x.reopen()
	case n < 95:
		x.note("fsync")
		if err := x.f.Sync(); err != nil {
			x.fail("fsync: %v", err)
		}
	default:
		x.check()
	}
}

// testRandomOperations does random operations on files and compares with a model in memory, over reopening and restarts.
func testRandomOperations(t *testing.T, p *place) {
	for seed := range uint64(3) {
		x := &random{t: t, path: p.path("random-%d", seed), r: rand.New(rand.NewPCG(seed, 2))}
		for range 3 {
			x.reopen()
			for range 250 {
				x.step()
			}
			x.check()
			must(t, x.f.Close())
			x.f = nil
			if p.refresh != nil {
				x.note("restart")
				p.refresh(t)
			}
			x.check()
		}
	}
}

// testTemporaryFile: O_TMPFILE works, or is refused with the error that makes programs take another way.
func testTemporaryFile(t *testing.T, p *place) {
	fd, err := unix.Open(p.dir, unix.O_TMPFILE|unix.O_RDWR, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return
	}
	must(t, err)
	defer func() { _ = unix.Close(fd) }()
	_, err = unix.Write(fd, []byte("x"))
	must(t, err)
	must(t, unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, p.path("named"), unix.AT_SYMLINK_FOLLOW))
	expect(t, p.path("named"), []byte("x"))
}

// testSync: every way to ask for durability succeeds.
func testSync(t *testing.T, p *place) {
	f := open(t, p.path("f"), os.O_CREATE|os.O_RDWR)
	d := open(t, p.dir, os.O_RDONLY)
	_, err := f.Write(noise(1, 10000))
	must(t, err)
	must(t, unix.Fdatasync(int(f.Fd())))
	must(t, unix.Fsync(int(f.Fd())))
	must(t, unix.Fsync(int(d.Fd())))
	must(t, unix.Fdatasync(int(d.Fd())))
	must(t, unix.Syncfs(int(d.Fd())))
	s := open(t, p.path("s"), os.O_CREATE|os.O_WRONLY|os.O_SYNC)
	_, err = s.Write([]byte("x"))
	must(t, err)
	ro := open(t, p.path("f"), os.O_RDONLY)
	must(t, ro.Sync())
}

// testOpenFlags: flags of open(2) that mail programs use.
func testOpenFlags(t *testing.T, p *place) {
	path := p.path("f")
	write(t, path, noise(5, 5000))
	must(t, os.Symlink("f", p.path("link")))
	for _, c := range []struct {
		name  string
		path  string
		flags int
		want  error
	}{
		{"exclusive over a file", path, unix.O_CREAT | unix.O_EXCL | unix.O_RDWR, unix.EEXIST},
		{"exclusive over a link", p.path("link"), unix.O_CREAT | unix.O_EXCL | unix.O_RDWR, unix.EEXIST},
		{"no follow", p.path("link"), unix.O_NOFOLLOW | unix.O_RDONLY, unix.ELOOP},
		{"directory wanted", path, unix.O_DIRECTORY | unix.O_RDONLY, unix.ENOTDIR},
		{"directory for writing", p.dir, unix.O_RDWR, unix.EISDIR},
		{"missing", p.path("missing"), unix.O_RDONLY, unix.ENOENT},
		{"below a file", path + "/x", unix.O_RDONLY, unix.ENOTDIR},
		{"path only", path, unix.O_PATH, nil},
		{"no atime", path, unix.O_NOATIME | unix.O_RDONLY, nil},
		{"close on exec, truncate", path, unix.O_TRUNC | unix.O_WRONLY | unix.O_CLOEXEC, nil},
	} {
		fd, err := unix.Open(c.path, c.flags, 0o644)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if err == nil {
			must(t, unix.Close(fd))
		}
	}
	if st := stat(t, path); st.Size != 0 {
		t.Errorf("%d bytes after O_TRUNC", st.Size)
	}
	ro := open(t, path, os.O_RDONLY)
	if _, err := unix.Write(int(ro.Fd()), []byte("x")); !errors.Is(err, unix.EBADF) {
		t.Errorf("write to a reading handle: %v", err)
	}
}
