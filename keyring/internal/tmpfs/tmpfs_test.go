package tmpfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// newDir makes a directory in memory. Linux systems have /dev/shm on tmpfs; a test that finds none must not pass.
func newDir(t *testing.T) string {
	t.Helper()
	path, err := os.MkdirTemp("/dev/shm", "mailcryptfs-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(path) })
	return path
}

func openDir(t *testing.T) *Dir {
	t.Helper()
	d, err := Open(newDir(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		make func(t *testing.T) string
		want string
	}{
		{"on disk", func(t *testing.T) string {
			dir := filepath.Join(t.TempDir(), "d")
			must(t, os.Mkdir(dir, 0o700))
			return dir
		}, "does not lie in memory"},
		{"missing", func(t *testing.T) string { return filepath.Join(newDir(t), "none") }, "does not exist"},
		{"symbolic link", func(t *testing.T) string {
			link := filepath.Join(newDir(t), "link")
			must(t, os.Symlink(newDir(t), link))
			return link
		}, "symbolic link"},
		{"file", func(t *testing.T) string {
			file := filepath.Join(newDir(t), "file")
			must(t, os.WriteFile(file, nil, 0o700))
			return file
		}, "or a file"},
		{"group may enter", func(t *testing.T) string { d := newDir(t); must(t, os.Chmod(d, 0o750)); return d }, "chmod 0700"},
		{"sticky", func(t *testing.T) string { d := newDir(t); must(t, os.Chmod(d, 0o700|os.ModeSticky)); return d }, "chmod 0700"},
		{"owner may not write", func(t *testing.T) string { d := newDir(t); must(t, os.Chmod(d, 0o500)); return d }, "chmod 0700"},
		{"foreign", func(t *testing.T) string { d := newDir(t); must(t, os.Chown(d, 12345, 0)); return d }, "chown root"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := tt.make(t)
			_, err := Open(path)
			if !errors.Is(err, ErrDir) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestCheckNoticesChanges(t *testing.T) {
	t.Parallel()
	d := openDir(t)
	must(t, os.Chmod(d.Path(), 0o755))
	if err := d.Check(); !errors.Is(err, ErrDir) {
		t.Errorf("mode: %v", err)
	}
	must(t, os.Chmod(d.Path(), 0o700))
	must(t, d.Check())
	must(t, os.Remove(d.Path()))
	if err := d.Check(); !errors.Is(err, ErrDir) || !strings.Contains(err.Error(), "removed") {
		t.Errorf("removed: %v", err)
	}
}

func TestWriteReadRemove(t *testing.T) {
	t.Parallel()
	d := openDir(t)
	for _, content := range []string{"one\n", "two, longer\n", "", strings.Repeat("x", MaxEntry)} {
		must(t, d.Write("alice", []byte(content)))
		if got, err := d.Read("alice"); err != nil || string(got) != content {
			t.Errorf("got %q, %v", got, err)
		}
	}
	st, err := os.Stat(filepath.Join(d.Path(), "alice"))
	if err != nil || st.Mode() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	if names, err := d.List(); err != nil || !slices.Equal(names, []string{"alice"}) {
		t.Errorf("%v, %v", names, err)
	}
	if !d.Has("alice") || d.Has("bob") {
		t.Error("Has is wrong")
	}
	must(t, d.Remove("alice"))
	if err := d.Remove("alice"); !errors.Is(err, ErrNotFound) {
		t.Errorf("second Remove: %v", err)
	}
	if _, err := d.Read("alice"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Read: %v", err)
	}
	if left, err := os.ReadDir(d.Path()); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	d := openDir(t)
	for _, name := range []string{"", ".", "..", ".hidden", "a/b", "../x"} {
		if err := d.Write(name, nil); !errors.Is(err, ErrEntry) {
			t.Errorf("Write %q: %v", name, err)
		}
		if _, err := d.Read(name); !errors.Is(err, ErrEntry) {
			t.Errorf("Read %q: %v", name, err)
		}
		if err := d.Remove(name); !errors.Is(err, ErrEntry) {
			t.Errorf("Remove %q: %v", name, err)
		}
	}
	if err := d.Write("alice", make([]byte, MaxEntry+1)); !errors.Is(err, ErrEntry) {
		t.Errorf("513 bytes: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(d.Path(), ".new-00"), nil, 0o600))
	if names, err := d.List(); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	d := openDir(t)
	path := filepath.Join(d.Path(), "x")
	file := func(t *testing.T) { t.Helper(); must(t, os.WriteFile(path, []byte("x"), 0o600)) }
	tests := []struct {
		name string
		make func(t *testing.T)
		want string
	}{
		{"directory", func(t *testing.T) { must(t, os.Mkdir(path, 0o600)) }, "not a regular file"},
		{"FIFO", func(t *testing.T) { must(t, unix.Mkfifo(path, 0o600)) }, "not a regular file"},
		{"socket", func(t *testing.T) {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			must(t, err)
			defer unix.Close(fd)
			must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
		}, "not a regular file"},
		{"symbolic link", func(t *testing.T) { must(t, os.Symlink("y", path)) }, "not a regular file"},
		{"foreign", func(t *testing.T) { file(t); must(t, os.Chown(path, 12345, 0)) }, "uid 12345"},
		{"readable", func(t *testing.T) { file(t); must(t, os.Chmod(path, 0o640)) }, "mode 0640"},
		{"setuid", func(t *testing.T) { file(t); must(t, os.Chmod(path, 0o600|os.ModeSetuid)) }, "mode 4600"},
		{"two links", func(t *testing.T) { file(t); must(t, os.Link(path, path+"2")) }, "more than one link"},
		{"large", func(t *testing.T) { must(t, os.WriteFile(path, make([]byte, MaxEntry+1), 0o600)) }, "more than 512"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			defer os.Remove(path + "2")
			defer os.Remove(path)
			tt.make(t)
			_, err := d.Read("x")
			if !errors.Is(err, ErrEntry) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestNeverAPart reads while others write: each entry that is seen is whole.
func TestNeverAPart(t *testing.T) {
	t.Parallel()
	d := openDir(t)
	must(t, d.Write("x", bytes.Repeat([]byte{'0'}, 400)))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 200 {
				if err := d.Write("x", bytes.Repeat(fmt.Append(nil, (i+j)%10), 400)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 1000 {
		b, err := d.Read("x")
		if err != nil || len(b) != 400 || len(bytes.Trim(b, string(b[:1]))) != 0 {
			t.Fatalf("saw %q, %v", b, err)
		}
	}
	wg.Wait()
}
