package posix

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"golang.org/x/sys/unix"
)

// childWrite PATH obeys "OFFSET BYTE COUNT": pwrite, and "trunc SIZE".
func childWrite(c *harness.Child) error {
	f, err := os.OpenFile(c.Args[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = c.Obey(func(line string) (string, error) {
		w := strings.Fields(line)
		n := make([]int, len(w))
		for i := range w {
			n[i], _ = strconv.Atoi(w[i])
		}
		if w[0] == "trunc" {
			return "ok", f.Truncate(int64(n[1]))
		}
		_, err := f.WriteAt(bytes.Repeat([]byte{byte(n[1])}, n[2]), int64(n[0]))
		return "ok", err
	})
	return errors.Join(err, f.Close())
}

// mapShared maps the beginning of a file; the mapping goes when the test ends.
func mapShared(t *testing.T, f *os.File, size, prot int) []byte {
	t.Helper()
	m, err := unix.Mmap(int(f.Fd()), 0, size, prot, unix.MAP_SHARED)
	if err != nil {
		t.Fatalf("mmap: %v", err)
	}
	t.Cleanup(func() { _ = unix.Munmap(m) })
	return m
}

// testMapSeesWrites: a shared mapping and a reading handle see each pwrite of another process at once, as Dovecot's readers
// of dovecot.index.cache require.
func testMapSeesWrites(t *testing.T, p *place) {
	const size = 64 << 10
	path := p.path("cache")
	want := noise(2, size)
	write(t, path, want)
	f := open(t, path, os.O_RDONLY)
	m := mapShared(t, f, size, unix.PROT_READ)
	w := harness.Spawn(t, "write", path)
	for i := range 300 {
		off, n := (i*7919)%(size-5000), 1+(i*131)%5000
		ask(t, w, fmt.Sprintf("%d %d %d", off, i%256, n), "ok")
		copy(want[off:], bytes.Repeat([]byte{byte(i)}, n))
		if !bytes.Equal(m, want) {
			t.Fatalf("write %d: the mapping: %s", i, difference(m, want))
		}
		if i%10 == 0 {
			if got := contentOf(t, f); !bytes.Equal(got, want) {
				t.Fatalf("write %d: read: %s", i, difference(got, want))
			}
		}
	}
	w.Wait(t)
}

// testMapSeesGrowth: a mapping that reaches over the end of a file sees what is appended within its last page, and a reader
// that follows a growing file never sees zeros in place of records.
func testMapSeesGrowth(t *testing.T, p *place) {
	const pages = 16
	path := p.path("log")
	write(t, path, []byte("begin"))
	f := open(t, path, os.O_RDONLY)
	m := mapShared(t, f, pages*4096, unix.PROT_READ)
	w := harness.Spawn(t, "write", path)
	end := 5
	for i := range 200 {
		n := 1 + (i*37)%300
		ask(t, w, fmt.Sprintf("%d %d %d", end, 1+i%255, n), "ok")
		want := bytes.Repeat([]byte{byte(1 + i%255)}, n)
		if got := m[end : end+n]; !bytes.Equal(got, want) {
			t.Fatalf("append %d at %d: the mapping: %s", i, end, difference(got, want))
		}
		end += n
		if st := fstat(t, f); st.Size != int64(end) {
			t.Fatalf("append %d: size %d, want %d", i, st.Size, end)
		}
	}
	// Cut, then grown again: what lay beyond the cut is zero.
	ask(t, w, "trunc 100", "ok")
	ask(t, w, "trunc 3000", "ok")
	if !bytes.Equal(m[100:3000], make([]byte, 2900)) {
		t.Error("bytes beyond a cut came back in the mapping")
	}
	w.Wait(t)
}

func testMapWritable(t *testing.T, p *place) {
	path := p.path("f")
	want := noise(3, 20000)
	write(t, path, want)
	f := open(t, path, os.O_RDWR)
	m := mapShared(t, f, len(want), unix.PROT_READ|unix.PROT_WRITE)
	for i := 0; i < len(want); i += 1000 {
		m[i] ^= 0xff
		want[i] ^= 0xff
	}
	must(t, unix.Msync(m, unix.MS_SYNC))
	expect(t, path, want)
	m[19999] ^= 1 // left to munmap
	want[19999] ^= 1
	if got := contentOf(t, f); !bytes.Equal(got, want) {
		t.Fatalf("before munmap: %s", difference(got, want))
	}
	must(t, f.Sync())
	expect(t, path, want)
	if p.refresh != nil {
		must(t, unix.Munmap(m))
		must(t, f.Close())
		p.refresh(t)
		expect(t, path, want)
	}
}

// childMapWriter PATH SIZE maps the file writable and obeys "OFFSET BYTE COUNT" by stores and msync.
func childMapWriter(c *harness.Child) error {
	f, err := os.OpenFile(c.Args[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, c.Int(1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	// Neither munmap nor close: the end of the process does both.
	return c.Obey(func(line string) (string, error) {
		var off, b, n int
		if _, err := fmt.Sscan(line, &off, &b, &n); err != nil {
			return "", err
		}
		copy(m[off:off+n], bytes.Repeat([]byte{byte(b)}, n))
		return "ok", unix.Msync(m, unix.MS_SYNC)
	})
}

// testMapWriterProcess: stores of another process, after msync, are seen by read and by mappings here.
func testMapWriterProcess(t *testing.T, p *place) {
	const size = 32 << 10
	path := p.path("f")
	want := noise(4, size)
	write(t, path, want)
	f := open(t, path, os.O_RDONLY)
	m := mapShared(t, f, size, unix.PROT_READ)
	w := harness.Spawn(t, "mapwriter", path, strconv.Itoa(size))
	for i := range 50 {
		off, n := (i*7919)%(size-5000), 1+(i*131)%5000
		ask(t, w, fmt.Sprintf("%d %d %d", off, i, n), "ok")
		copy(want[off:], bytes.Repeat([]byte{byte(i)}, n))
		if !bytes.Equal(m, want) {
			t.Fatalf("store %d: the mapping: %s", i, difference(m, want))
		}
		if got := contentOf(t, f); !bytes.Equal(got, want) {
			t.Fatalf("store %d: read: %s", i, difference(got, want))
		}
	}
	w.Wait(t)
	expect(t, path, want)
}
