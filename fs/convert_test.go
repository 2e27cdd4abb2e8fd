package fs_test

import (
	"bytes"
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// shape is what the view must not change in a conversion.
type shape struct {
	size  int64
	mode  iofs.FileMode
	mtime time.Time
	ino   uint64
	nlink uint64
	uid   uint32
	data  string
}

func shapes(t *testing.T, root string) map[string]shape {
	t.Helper()
	out := map[string]shape{}
	err := filepath.WalkDir(root, func(path string, _ iofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := os.Lstat(path)
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		s := shape{mode: fi.Mode(), mtime: fi.ModTime(), ino: st.Ino, uid: st.Uid}
		if fi.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			s.data, s.size, s.nlink = string(b), fi.Size(), uint64(st.Nlink)
		}
		out[strings.TrimPrefix(path, root)] = s
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// grep returns the files below root whose name or content has the marker.
func grep(t *testing.T, root, marker string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d iofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.Contains(d.Name(), marker) {
			found = append(found, path)
		}
		if d.Type().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if bytes.Contains(b, []byte(marker)) {
				found = append(found, path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// pass converts until at most busy entries are in use: a file that was closed stays open for the daemon until the kernel
// gets to tell it. What was done in all is in the report.
func pass(t *testing.T, busy int64, run func() (fs.Report, error)) fs.Report {
	t.Helper()
	done := int64(0)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		r, err := run()
		r.Left += done
		r.Done += done
		switch {
		case err != nil || r.Failed > 0:
			t.Fatalf("%+v, %v", r, err)
		case r.Busy <= busy:
			return r
		case time.Now().After(deadline):
			t.Fatalf("still in use: %+v", r)
		}
		done = r.Done
	}
}

// encrypt encrypts everything of a user but what stays in use.
func (m mount) encrypt(t *testing.T, u account.User, busy int64) fs.Report {
	t.Helper()
	return pass(t, busy, func() (fs.Report, error) { return m.Encrypt(t.Context(), u, false, nil) })
}

// TestConvert takes over a plain maildir in place and gives it back, with files
// open, and compares what the view shows.
func TestConvert(t *testing.T) {
	const marker = "MARKER"
	m := mountView(t)
	root := filepath.Join(m.store, "alice")
	for _, dir := range []string{"cur", "new", "tmp", "." + marker + "/cur"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Unix(1234567890, 123456789)
	for name, size := range map[string]int{"cur/a" + marker + ":2,S": 5000, "new/empty": 0, "cur/page": 4096, "dovecot-uidlist": 300, "." + marker + "/cur/x": 100000} {
		p := filepath.Join(root, name)
		if err := os.WriteFile(p, bytes.Repeat([]byte(marker+"\n"), size/7+1)[:size], 0o640); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Chown(p, 1234, 99), os.Chtimes(p, old, old)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(root, "cur/page"), filepath.Join(root, "."+marker+"/cur/copy")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(marker, filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(root, "cur"), old, old); err != nil {
		t.Fatal(err)
	}

	view := filepath.Join(m.view, "alice")
	want := shapes(t, view)
	for path := range want { // the kernel forgets nothing meanwhile, or the numbers would be others
		fd, err := unix.Open(view+path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
	}
	if err := unix.Mount("", m.view, "", unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil { // drops what is not held
		t.Fatal(err)
	}
	busy, err := os.Open(filepath.Join(view, "dovecot-uidlist"))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()

	if r := m.encrypt(t, "alice", 1); r.Busy != 1 || r.Done != r.Left-1 {
		t.Fatalf("encrypt with an open file: %+v", r)
	}
	busy.Close()
	if r := m.encrypt(t, "alice", 0); !r.Complete() {
		t.Fatalf("encrypt: %+v", r)
	}
	same(t, "after encrypting", shapes(t, view), want)
	if left := grep(t, m.store, marker); len(left) > 0 {
		t.Errorf("in clear after encrypting: %q", left)
	}
	if r, err := m.Encrypt(t.Context(), "alice", true, nil); err != nil || r.Left != 0 {
		t.Errorf("a second pass finds %+v, %v", r, err)
	}

	if r := pass(t, 0, func() (fs.Report, error) { return m.Decrypt(t.Context(), "alice", false, nil) }); !r.Complete() {
		t.Fatalf("decrypt: %+v", r)
	}
	same(t, "after decrypting", shapes(t, view), want)
	for path, s := range want {
		b, err := os.ReadFile(filepath.Join(root, path))
		if s.mode.IsRegular() && (err != nil || string(b) != s.data) {
			t.Errorf("%s is not a plain file again: %v", path, err)
		}
	}
}

func same(t *testing.T, when string, got, want map[string]shape) {
	t.Helper()
	for path, w := range want {
		if g := got[path]; g != w {
			g.data, w.data = "", ""
			t.Errorf("%s, %s is %+v, was %+v", when, path, g, w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s there are %d entries, were %d", when, len(got), len(want))
	}
}

// TestFollow shows that an index that was written in the tmp of a folder can be read
// while its user is locked.
func TestFollow(t *testing.T) {
	m := mountView(t)
	if err := os.MkdirAll(filepath.Join(m.view, "alice/tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	temp, index := filepath.Join(m.view, "alice/tmp/x"), filepath.Join(m.view, "alice/subscriptions")
	if err := errors.Join(os.WriteFile(temp, []byte("INBOX\n"), 0o600), os.Rename(temp, index)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		r, err := m.Encrypt(t.Context(), "alice", true, nil)
		if err == nil && r.Left == 0 {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("it was not converted: %+v, %v", r, err)
		}
	}
	m.keys.lock("alice", true)
	m.KeysGone("alice")
	if b, err := os.ReadFile(index); err != nil || string(b) != "INBOX\n" {
		t.Fatalf("%q, %v", b, err)
	}
}

// TestRefusedStays shows that a pass does not make a plain file look genuine that the
// view refuses to serve.
func TestRefusedStays(t *testing.T) {
	m := mountWith(t, t.TempDir(), func(o *fs.Options) { o.Layout.Plain = "refuse" })
	if err := os.MkdirAll(filepath.Join(m.store, "alice/new"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.store, "alice/new/forged"), []byte("forged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := m.Encrypt(t.Context(), "alice", false, nil); err != nil || r.Failed != 1 {
		t.Errorf("a pass over a refused file: %+v, %v", r, err)
	}
	if b, err := os.ReadFile(filepath.Join(m.view, "alice/new/forged")); !errors.Is(err, syscall.EACCES) {
		t.Errorf("it is served: %q, %v", b, err)
	}
}

// TestRetired shows that a pass leaves nothing under a retired content key.
func TestRetired(t *testing.T) {
	m := mountView(t)
	if err := os.MkdirAll(filepath.Join(m.view, "alice/new"), 0o700); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(m.view, "alice/new/1")
	if err := os.WriteFile(name, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.keys.rotate("alice")
	m.encrypt(t, "alice", 0)
	if r, err := m.Encrypt(t.Context(), "alice", false, nil); err != nil || r.Left > 0 || r.Failed > 0 {
		t.Fatalf("a second pass finds %+v, %v", r, err)
	}
	m.keys.forget()
	m.KeysGone("alice")
	if b, err := os.ReadFile(name); err != nil || string(b) != "hello" {
		t.Errorf("without the retired key: %q, %v", b, err)
	}
}
