package posix

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func testXattrs(t *testing.T, p *place) {
	write(t, p.path("f"), []byte("x"))
	dir := mkdir(t, p.dir, "d")
	for _, path := range []string{p.path("f"), dir} {
		set := map[string][]byte{
			"user.empty": {}, "user.dovecot.x": []byte("v"), "user.binary": noise(1, 300), "user." + strings.Repeat("n", 100): []byte("long name"),
		}
		for n, v := range set {
			must(t, unix.Setxattr(path, n, v, 0))
		}
		for n, v := range set {
			if got, err := getxattr(path, n); err != nil || !bytes.Equal(got, v) {
				t.Errorf("%s: %q, %v, want %q", n, got, err, v)
			}
		}
		names := listxattr(t, path)
		for n := range set {
			if !slices.Contains(names, n) {
				t.Errorf("%s is not listed in %q", n, names)
			}
		}
		if len(names) != len(set) {
			t.Errorf("%q are listed, want %d names", names, len(set))
		}
		if err := unix.Setxattr(path, "user.binary", nil, unix.XATTR_CREATE); !errors.Is(err, unix.EEXIST) {
			t.Errorf("create over an attribute: %v", err)
		}
		if err := unix.Setxattr(path, "user.new", nil, unix.XATTR_REPLACE); !errors.Is(err, unix.ENODATA) {
			t.Errorf("replace of nothing: %v", err)
		}
		if _, err := unix.Getxattr(path, "user.binary", make([]byte, 10)); !errors.Is(err, unix.ERANGE) {
			t.Errorf("a small buffer: %v", err)
		}
		must(t, unix.Setxattr(path, "user.binary", []byte("short"), unix.XATTR_REPLACE))
		must(t, unix.Removexattr(path, "user.empty"))
		if err := unix.Removexattr(path, "user.empty"); !errors.Is(err, unix.ENODATA) {
			t.Errorf("remove of nothing: %v", err)
		}
	}
	must(t, os.Rename(p.path("f"), p.path("g")))
	if got, err := getxattr(p.path("g"), "user.binary"); err != nil || string(got) != "short" {
		t.Errorf("after a rename: %q, %v", got, err)
	}
}

func getxattr(path, name string) ([]byte, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Lgetxattr(path, name, buf)
	return buf[:max(n, 0)], err
}

func listxattr(t *testing.T, path string) []string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	must(t, err)
	return slices.DeleteFunc(strings.Split(string(buf[:n]), "\x00"), func(s string) bool { return !strings.HasPrefix(s, "user.") })
}
