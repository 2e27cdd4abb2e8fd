package posix

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func testSymlinks(t *testing.T, p *place) {
	for i, target := range []string{"x", "../../outside", "/absolute/path", "with space\nnewline", string([]byte{0xff, 0xfe, 1}), strings.Repeat("t/", 500), strings.Repeat("u", 255)} {
		l := p.path("l%d", i)
		must(t, os.Symlink(target, l))
		if got, err := os.Readlink(l); err != nil || got != target {
			t.Errorf("%q: %q, %v", target, got, err)
		}
		if st := stat(t, l); st.Size != int64(len(target)) || st.Mode != unix.S_IFLNK|0o777 {
			t.Errorf("%q: size %d, mode %o", target, st.Size, st.Mode)
		}
	}
	write(t, p.path("file"), []byte("content"))
	must(t, os.Symlink("file", p.path("to-file")))
	expect2 := func(path string) {
		t.Helper()
		if got := string(read(t, path)); got != "content" {
			t.Errorf("%s: %q", path, got)
		}
	}
	expect2(p.path("to-file"))
	must(t, os.Rename(p.path("to-file"), p.path("renamed")))
	expect2(p.path("renamed"))
	must(t, unix.Linkat(unix.AT_FDCWD, p.path("renamed"), unix.AT_FDCWD, p.path("hard"), 0))
	if st := stat(t, p.path("hard")); st.Mode&unix.S_IFMT != unix.S_IFLNK || st.Nlink != 2 {
		t.Errorf("a hard link of a symbolic link: mode %o, %d links", st.Mode, st.Nlink)
	}
	must(t, os.Symlink("loop", p.path("loop")))
	if _, err := os.ReadFile(p.path("loop")); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a loop: %v", err)
	}
	must(t, unix.Lchown(p.path("renamed"), 7, 8))
	if st := stat(t, p.path("renamed")); st.Uid != 7 || st.Gid != 8 {
		t.Errorf("owner %d:%d", st.Uid, st.Gid)
	}
}

func testSpecialFiles(t *testing.T, p *place) {
	fifo := p.path("fifo")
	must(t, unix.Mkfifo(fifo, 0o640))
	if st := stat(t, fifo); st.Mode != unix.S_IFIFO|0o640 {
		t.Errorf("mode %o", st.Mode)
	}
	rw, err := os.OpenFile(fifo, os.O_RDWR, 0)
	must(t, err)
	defer func() { _ = rw.Close() }()
	_, err = rw.Write([]byte("through"))
	must(t, err)
	buf := make([]byte, 20)
	if n, err := rw.Read(buf); err != nil || string(buf[:n]) != "through" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	must(t, os.Chdir(p.dir)) // sun_path is short
	defer func() { _ = os.Chdir("/") }()
	l, err := net.Listen("unix", "socket")
	must(t, err)
	defer func() { _ = l.Close() }()
	if st := stat(t, p.path("socket")); st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		t.Errorf("mode %o", st.Mode)
	}
	c, err := net.Dial("unix", "socket")
	must(t, err)
	must(t, c.Close())
	must(t, os.Rename(p.path("fifo"), p.path("fifo2")))
	kinds := map[string]byte{}
	for _, e := range list(t, p.dir, 4096) {
		kinds[e.name] = e.kind
	}
	if kinds["fifo2"] != unix.DT_FIFO || kinds["socket"] != unix.DT_SOCK {
		t.Errorf("types in the listing: %v", kinds)
	}
	// A device node works or is refused as mknod(2) says.
	if err := unix.Mknod(p.path("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil && !errors.Is(err, unix.EPERM) {
		t.Errorf("mknod of a device: %v", err)
	}
}
