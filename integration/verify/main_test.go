package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/check"
	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, nil)) }

const (
	alice = "alice@example.org" // unlocked
	bob   = "bob@example.org"   // locked
	exOK  = 0
	exBad = 65
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// answer is what "verify --json" says.
type answer struct {
	Findings []check.Finding
	Summary  check.Summary
}

// verify runs the verb with --json and fails the test unless it ends with this exit code.
func verify(t testing.TB, s *harness.Site, code int, args ...string) answer {
	t.Helper()
	return verifyAs(t, s, nil, code, args...)
}

func verifyAs(t testing.TB, s *harness.Site, password []byte, code int, args ...string) answer {
	t.Helper()
	r := s.Call(t, password, "verify", append([]string{"--json"}, args...)...)
	if r.Code != code {
		t.Fatalf("verify %q: exit %d, want %d: %s%s", args, r.Code, code, r.Out, r.Err)
	}
	var a answer
	if err := json.Unmarshal([]byte(r.Out), &a); err != nil {
		t.Fatalf("verify --json: %v: %s", err, r.Out)
	}
	return a
}

// deliver puts a message into new/ as delivery agents do.
func deliver(view, user, name string, size int) error {
	box := filepath.Join(view, user)
	for _, d := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(box, d), 0o700); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(filepath.Join(box, "tmp", name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(bytes.Repeat([]byte("mail\n"), size/5+1)[:size])
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(filepath.Join(box, "tmp", name), filepath.Join(box, "new", name))
}

// appendTo adds lines to a file of the view.
func appendTo(path string, lines int) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	for range lines {
		if _, err := f.WriteString("a record of the index log, of which there are many\n"); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(f.Sync(), f.Close())
}

// fill gives both users a mailbox. alice is unlocked, bob is not.
func fill(t testing.TB, s *harness.Site) {
	t.Helper()
	s.Enroll(t, alice, bob)
	s.Unlock(t, alice)
	for _, user := range []string{alice, bob} {
		must(t, deliver(s.View, user, "first", 12000))
		must(t, deliver(s.View, user, "second", 100))
		must(t, deliver(s.View, user, strings.Repeat("long", 50), 4010))
		must(t, appendTo(filepath.Join(s.View, user, "dovecot.index.log"), 300))
		must(t, appendTo(filepath.Join(s.View, user, "dovecot.index.cache"), 300))
		must(t, os.Symlink("dovecot.index.log", filepath.Join(s.View, user, "link")))
	}
}

// start is a site with two mailboxes.
func start(t testing.TB, o harness.Options) *harness.Site {
	t.Helper()
	if o.Profile == "" {
		o.Profile = "dovecot-maildir"
	}
	s := harness.Start(t, o)
	fill(t, s)
	return s
}

// unchanged runs f and fails the test if anything in the store is another afterwards, times of access included.
func unchanged(t testing.TB, s *harness.Site, f func()) {
	t.Helper()
	before := snapshot(t, s.Store)
	f()
	if after := snapshot(t, s.Store); after != before {
		t.Errorf("the store was changed: %s", difference(before, after))
	}
}

// difference returns the lines of after that are not in before.
func difference(before, after string) string {
	var b strings.Builder
	for line := range strings.Lines(after) {
		if !strings.Contains(before, line) {
			b.WriteString(line)
		}
	}
	return b.String()
}

func snapshot(t testing.TB, root string) string {
	t.Helper()
	frozen, thaw, err := check.Freeze(root) // so that looking changes nothing either
	must(t, err)
	defer thaw()
	var out strings.Builder
	must(t, filepath.WalkDir(frozen+"/.", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		var content []byte
		if d.Type().IsRegular() {
			if content, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		fmt.Fprintf(&out, "%s %d %o %d %d:%d %d %v %v %v %x\n", strings.TrimPrefix(path, frozen), st.Ino, st.Mode, st.Nlink, st.Uid, st.Gid,
			st.Size, st.Atim, st.Mtim, st.Ctim, sha256.Sum256(content))
		return nil
	}))
	return out.String()
}

// stored returns the path in the store of a file of the view.
func stored(t testing.TB, s *harness.Site, view string) string {
	t.Helper()
	info, err := os.Stat(view)
	must(t, err)
	var found []string
	must(t, filepath.WalkDir(s.Store, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		// Times go with the file, and no two were made in the same nanosecond.
		if d.Type().IsRegular() && info.ModTime().UnixNano() == st.Mtim.Nano() && st.Size >= info.Size() {
			found = append(found, path)
		}
		return nil
	}))
	if len(found) != 1 {
		t.Fatalf("%d stored files may be %s: %q", len(found), view, found)
	}
	return found[0]
}

// flip changes one bit of a file of the store.
func flip(t testing.TB, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	var b [1]byte
	_, err = f.ReadAt(b[:], off)
	must(t, err)
	b[0] ^= 1
	_, err = f.WriteAt(b[:], off)
	must(t, errors.Join(err, f.Sync(), f.Close()))
}
