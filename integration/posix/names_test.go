package posix

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// names are hard names of 1 to 255 bytes.
func hardNames() []string {
	every := make([]byte, 0, 253)
	for b := 1; b < 256; b++ {
		if b != '/' {
			every = append(every, byte(b))
		}
	}
	names := []string{
		"a", " ", "...", "..a", ".hidden", "-rf", "~", "new\nline", "tab\t", "1700000000.M1P2.host,S=1234,W=1250:2,FRSab",
		"ümläut", "u\u0308", "\u00fc", string([]byte{0xff}), string([]byte{0xc3}), string(every), "x.n", "=", "%2F", "İ", "CON", "a\\b",
	}
	for _, n := range []int{100, 142, 171, 172, 173, 200, 240, 254, 255} {
		names = append(names, strings.Repeat("n", n), strings.Repeat("\xff", n-1)+"x", strings.Repeat("m", n-1)+"\n")
	}
	return names
}

func testNames(t *testing.T, p *place) { roundTrip(t, p, hardNames()) }

// testNamesLikeEncrypted: names that look like stored ones (FORMAT.md section 2) are names like any other.
func testNamesLikeEncrypted(t *testing.T, p *place) {
	b43 := strings.Repeat("A", 43)
	names := []string{
		"mc1=", "mc1=abc", "mc1=" + strings.Repeat("A", 24), "mc1+" + b43, "mc1+" + b43 + ".n", "mc1~", "mc1~x", "mc2=x", "mc9+y", "mc0~z",
		".mailcryptfs", "mc1", "mc", "mcx=1", "mc1-", "mc1=" + strings.Repeat("A", 251), "mc1~" + strings.Repeat("z", 251),
	}
	roundTrip(t, p, names)
}

// roundTrip makes files, directories and links of these names, lists, renames, links and removes them.
func roundTrip(t *testing.T, p *place, names []string) {
	t.Helper()
	check := func(dir string) {
		t.Helper()
		got := map[string]bool{}
		for _, e := range list(t, dir, 8192) {
			got[e.name] = true
		}
		for _, n := range names {
			if !got[n] {
				t.Errorf("%q is not listed in %s", n, filepath.Base(dir))
			}
		}
		if len(got) != len(names)+2 {
			t.Errorf("%d entries in %s, want %d", len(got), filepath.Base(dir), len(names)+2)
		}
	}
	files, dirs, links := mkdir(t, p.dir, "files"), mkdir(t, p.dir, "dirs"), mkdir(t, p.dir, "links")
	for i, n := range names {
		content := fmt.Appendf(nil, "content %d", i)
		write(t, files+"/"+n, content)
		expect(t, files+"/"+n, content)
		mkdir(t, dirs, n)
		write(t, dirs+"/"+n+"/"+n, content)
		must(t, os.Symlink(n, links+"/"+n))
		if _, err := os.OpenFile(files+"/"+n, os.O_CREATE|os.O_EXCL, 0); !errors.Is(err, os.ErrExist) {
			t.Errorf("%q again: %v", n, err)
		}
	}
	if p.refresh != nil {
		p.refresh(t)
	}
	check(files)
	check(dirs)
	check(links)
	second := mkdir(t, p.dir, "second")
	for i, n := range names {
		content := fmt.Appendf(nil, "content %d", i)
		expect(t, dirs+"/"+n+"/"+n, content)
		if got, err := os.Readlink(links + "/" + n); err != nil || got != n {
			t.Errorf("link %q: %q, %v", n, got, err)
		}
		must(t, os.Link(files+"/"+n, second+"/"+n))
		must(t, os.Rename(files+"/"+n, files+"/temporary"))
		must(t, os.Rename(files+"/temporary", files+"/"+n))
		must(t, os.Rename(dirs+"/"+n, dirs+"/temporary"))
		must(t, os.Rename(dirs+"/temporary", dirs+"/"+n))
		write(t, p.path("other"), []byte("other"))
		must(t, os.Rename(p.path("other"), second+"/"+n)) // over a name
		expect(t, files+"/"+n, content)
		if st := stat(t, files+"/"+n); st.Nlink != 1 {
			t.Errorf("%q: %d links", n, st.Nlink)
		}
	}
	check(files)
	check(dirs)
	check(second)
	for _, n := range names {
		must(t, os.Remove(files+"/"+n))
		must(t, os.Remove(second+"/"+n))
		must(t, os.Remove(links+"/"+n))
		must(t, os.Remove(dirs+"/"+n+"/"+n))
		must(t, os.Remove(dirs+"/"+n))
	}
	for _, d := range []string{files, dirs, links, second} {
		if left := list(t, d, 8192); len(left) != 2 {
			t.Errorf("%d entries are left in %s", len(left)-2, filepath.Base(d))
		}
		must(t, os.Remove(d))
	}
	for _, n := range []string{strings.Repeat("n", 256)} {
		if err := os.WriteFile(p.path("%s", n), nil, 0o600); !errors.Is(err, unix.ENAMETOOLONG) {
			t.Errorf("a name of %d bytes: %v", len(n), err)
		}
	}
}

// testDeepPath goes far beyond PATH_MAX by relative steps.
func testDeepPath(t *testing.T, p *place) {
	const depth = 60
	name := strings.Repeat("d", 200)
	fds := []int{}
	fd, err := unix.Open(p.dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	fds = append(fds, fd)
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	for range depth {
		must(t, unix.Mkdirat(fd, name, 0o755))
		fd, err = unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		fds = append(fds, fd)
	}
	f, err := unix.Openat(fd, "f", unix.O_CREAT|unix.O_RDWR, 0o600)
	must(t, err)
	_, err = unix.Write(f, []byte("deep"))
	must(t, err)
	must(t, unix.Fsync(f))
	must(t, unix.Close(f))
	must(t, unix.Renameat(fd, "f", fd, "g"))
	must(t, unix.Linkat(fd, "g", fds[0], "top", 0))
	must(t, unix.Fchmodat(fd, "g", 0o640, 0))
	f, err = unix.Openat(fd, "g", unix.O_RDONLY, 0)
	must(t, err)
	buf := make([]byte, 10)
	if n, err := unix.Read(f, buf); err != nil || string(buf[:n]) != "deep" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	must(t, unix.Close(f))
	expect(t, p.path("top"), []byte("deep"))
	must(t, unix.Unlinkat(fd, "g", 0))
	for i := depth - 1; i >= 0; i-- {
		must(t, unix.Unlinkat(fds[i], name, unix.AT_REMOVEDIR))
	}
}
