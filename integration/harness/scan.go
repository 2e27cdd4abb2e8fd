package harness

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// FindClear searches every name, link target, extended attribute and byte of the trees and files for the needles, and
// returns where they were found. The trees may be in use: what vanishes meanwhile may have got another name, so it looks at
// all of them until nothing does.
func FindClear(t testing.TB, needles []string, roots ...string) (found []string) {
	t.Helper()
	Eventually(t, time.Minute, "a search in which nothing vanishes", func() bool {
		var whole bool
		var err error
		if found, whole, err = findClear(needles, roots); err != nil {
			t.Fatal(err)
		}
		return whole
	})
	return found
}

// findClear searches once; whole says that nothing vanished.
func findClear(needles, roots []string) (found []string, whole bool, err error) {
	whole = true
	for _, root := range roots {
		if _, err := os.Lstat(root); err != nil {
			return nil, false, err
		}
		err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			var hits []string
			if err == nil {
				hits, err = clearIn(path, d, needles)
			}
			found = append(found, hits...)
			if errors.Is(err, os.ErrNotExist) {
				whole, err = false, nil
			}
			return err
		})
		if err != nil {
			return nil, false, err
		}
	}
	return found, whole, nil
}

func clearIn(path string, d os.DirEntry, needles []string) (found []string, err error) {
	note := func(where, text string) {
		for _, n := range needles {
			if strings.Contains(text, n) {
				found = append(found, fmt.Sprintf("%q in %s of %s", n, where, path))
			}
		}
	}
	note("the name", d.Name())
	note("the extended attributes", xattrs(path))
	switch {
	case d.Type()&os.ModeSymlink != 0:
		target, err := os.Readlink(path)
		note("the target", target)
		return found, err
	case d.Type().IsRegular():
		hits, err := clearInFile(path, needles)
		for _, n := range hits {
			found = append(found, fmt.Sprintf("%q in %s", n, path))
		}
		return found, err
	}
	return found, nil
}

// xattrs joins all names and values of the attributes of one entry; nothing where the filesystem has none.
func xattrs(path string) string {
	names := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, names)
	if err != nil {
		return ""
	}
	all := string(names[:n])
	value := make([]byte, 64<<10)
	for _, name := range strings.Split(all, "\x00") {
		if n, err := unix.Lgetxattr(path, name, value); err == nil && name != "" {
			all += string(value[:n])
		}
	}
	return all
}

// clearInFile searches a file of any size, in pieces that overlap.
func clearInFile(path string, needles []string) (found []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	const piece, overlap = 4 << 20, 1 << 10
	buf := make([]byte, piece)
	hit := map[string]bool{}
	for off := int64(0); ; off += piece - overlap {
		n, err := f.ReadAt(buf, off)
		for _, needle := range needles {
			if !hit[needle] && bytes.Contains(buf[:n], []byte(needle)) {
				hit[needle] = true
				found = append(found, needle)
			}
		}
		if err == io.EOF {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// StoreFiles are the regular files of the store, key records left out, and their sizes in bytes.
func (s *Site) StoreFiles(t testing.TB) map[string]int64 {
	t.Helper()
	files := map[string]int64{}
	err := filepath.WalkDir(s.Store, func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.Name() == ".mailcryptfs":
			return filepath.SkipDir
		case d.Type().IsRegular():
			info, err := d.Info()
			if err == nil {
				files[path] = info.Size()
			}
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
