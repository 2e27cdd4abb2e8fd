package hostile

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// vmail is the uid and gid that owns all mail in these tests: Debian's user mail.
const vmail = 8

func TestMain(m *testing.M) {
	harness.WithoutRace()
	os.Exit(harness.Main(m, harness.Procs{"reach": childReach, "hold": childHold}))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// text is content of size bytes in which every piece of a line tells whose it is, of which file, version and place.
func text(user, file string, version, size int) []byte {
	var b bytes.Buffer
	for b.Len() < size {
		fmt.Fprintf(&b, "%s|%s|%d|%d|", user, file, version, b.Len())
		b.WriteString(strings.Repeat(string(rune('a'+(b.Len()+version)%26)), 60-b.Len()%60))
		b.WriteByte('\n')
	}
	return b.Bytes()[:size]
}

// deliver puts a file in place as delivery agents do.
func deliver(t testing.TB, path string, content []byte) {
	t.Helper()
	must(t, put(path, content))
}

func put(path string, content []byte) error {
	tmp := path + "~"
	if len(filepath.Base(tmp)) > 255 {
		tmp = filepath.Join(filepath.Dir(path), "being delivered")
	}
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Chown(vmail, vmail), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// read reads a file as far as it can be read. It follows no link and waits for nobody.
func read(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	var all []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Pread(fd, buf, int64(len(all)))
		if err != nil {
			return all, &os.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			return all, nil
		}
		all = append(all, buf[:n]...)
	}
}

func readable(t testing.TB, path string, want []byte) {
	t.Helper()
	got, err := read(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s: %v, %d bytes, want its content of %d bytes", path, err, len(got), len(want))
	}
}

// storePath is where an entry of the view lies in the store: the two have one inode number.
func storePath(t testing.TB, s *harness.Site, path string) string {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	var found string
	must(t, filepath.WalkDir(s.Store, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.Name() == ".mailcryptfs" {
			return err
		}
		var low unix.Stat_t
		if err := unix.Lstat(p, &low); err != nil {
			return err
		}
		if low.Ino == st.Ino && low.Mode&unix.S_IFMT == st.Mode&unix.S_IFMT {
			found = p
		}
		return nil
	}))
	if found == "" {
		t.Fatalf("%s is not in the store", path)
	}
	return found
}

// journal is all that the daemon wrote.
func journal(t testing.TB, s *harness.Site) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(filepath.Dir(s.Config), "log"))
	must(t, err)
	return b
}

// mistakes are the lines of the log that no hostile store may provoke.
func mistakes(log []byte) (found []string) {
	for line := range strings.Lines(string(log)) {
		for _, bad := range []string{"by a mistake of mailcryptfs", "panic", "fatal error:", "DATA RACE", "goroutine "} {
			if strings.Contains(line, bad) {
				found = append(found, line[:min(len(line), 2000)])
				break
			}
		}
	}
	return found
}

// copyTree makes to a copy of from, with everything that a filesystem keeps of it.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", "--", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
}

// announceDamage says that the daemon may complain of files that cannot be read.
func announceDamage(s *harness.Site) {
	s.Announce(`stored file cannot be read|cannot convert an entry|a conversion is not complete`)
	s.Announce(`two stored files have one name in the view|user cannot be served as usual|keyring entry refused`)
}

// verb is a command that runs a verb of the binary.
func verb(t testing.TB, s *harness.Site, name string, args ...string) *exec.Cmd {
	return exec.Command(harness.Binary(t), append([]string{name, "--config", s.Config}, args...)...)
}

func keysOf[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }
