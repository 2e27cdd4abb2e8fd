package view

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"golang.org/x/sys/unix"
)

// vmail is the uid and gid that owns all mail in these tests: Debian's user mail, since maildrop wants a user with a name.
const vmail = 8

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, harness.Procs{
		"hold":    childHold,
		"deliver": childDeliver,
	}))
}

// must fails the test for an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// message is a mail of about size bytes whose text can be recognised: every line names the marker.
func message(marker string, size int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: sender-%s@example.net\nTo: someone@example.org\nSubject: subject-%s\n\n", marker, marker)
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "line %d of body-%s\n", i, marker)
	}
	return b.Bytes()
}

// deliver puts a message into new/ as delivery agents do: write to tmp/, fsync, rename, fsync of the directory.
func deliver(t testing.TB, box, name string, content []byte) string {
	t.Helper()
	path, err := put(box, name, content)
	must(t, err)
	return path
}

func put(box, name string, content []byte) (string, error) {
	tmp, final := box+"/tmp/"+name, box+"/new/"+name
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Chown(vmail, vmail), f.Sync(), f.Close()); err != nil {
		return "", err
	}
	if err := os.Rename(tmp, final); err != nil {
		return "", err
	}
	d, err := os.Open(box + "/new")
	if err != nil {
		return "", err
	}
	return final, errors.Join(d.Sync(), d.Close())
}

// readable fails the test unless the file has this content.
func readable(t testing.TB, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v, want its content", err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: %d bytes differ from the %d that were written", path, len(got), len(want))
	}
}

// refused fails the test unless every way to open the file is EACCES.
func refused(t testing.TB, path string) {
	t.Helper()
	for _, flags := range []int{unix.O_RDONLY, unix.O_RDWR, unix.O_WRONLY, unix.O_WRONLY | unix.O_APPEND, unix.O_RDWR | unix.O_CREAT} {
		fd, err := unix.Open(path, flags, 0o600)
		if err == nil {
			_ = unix.Close(fd)
		}
		if !errors.Is(err, unix.EACCES) {
			t.Fatalf("open %s with flags %#x: %v, want EACCES", path, flags, err)
		}
	}
}

// closes waits until the file cannot be opened any more: EACCES, and never anything else but its whole content before.
func closes(t testing.TB, limit time.Duration, path string, want []byte) {
	t.Helper()
	harness.Eventually(t, limit, "EACCES for "+path, func() bool {
		got, err := os.ReadFile(path)
		if errors.Is(err, unix.EACCES) {
			return true
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s: %v, %d bytes, want the content or EACCES", path, err, len(got))
		}
		return false
	})
	refused(t, path)
}

func stat(t testing.TB, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatalf("lstat %s: %v", path, err)
	}
	return st
}

// names lists a directory.
func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// stored does something that makes one file, and returns the path of that file in the store.
func stored(t testing.TB, s *harness.Site, do func()) string {
	t.Helper()
	before := s.StoreFiles(t)
	do()
	var fresh []string
	for path := range s.StoreFiles(t) {
		if _, old := before[path]; !old {
			fresh = append(fresh, path)
		}
	}
	if len(fresh) != 1 {
		t.Fatalf("%d new files in the store, want 1: %q", len(fresh), fresh)
	}
	return fresh[0]
}

// noClear fails the test when a needle is found in the store, in the keyring directory, or anywhere in the image.
func noClear(t testing.TB, s *harness.Site, needles ...string) {
	t.Helper()
	unix.Sync()
	if found := harness.FindClear(t, needles, s.Store, s.Keyring, s.Image); len(found) != 0 {
		slices.Sort(found)
		t.Errorf("in clear: %s", strings.Join(found, "\n"))
	}
}

// isUnlocked is what the daemon says of a user.
func isUnlocked(t testing.TB, s *harness.Site, user string) bool {
	t.Helper()
	v := s.Status(t, "--user", user)
	unlocked, ok := v["unlocked"].(bool)
	if !ok {
		t.Fatalf("status of %s does not say whether it is unlocked: %v", user, v)
	}
	return unlocked
}
