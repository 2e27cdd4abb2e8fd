package fs_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

func TestCyrusByName(t *testing.T) {
	m := mountCyrus(t, t.TempDir())
	for _, dir := range []string{"user/alice/#sieve", "a/user/alice/Sent", "u/DELETED/user/alice/5F", "domain/example.org/user/alice", "user/bob", "public", "stage."} {
		if err := os.MkdirAll(filepath.Join(m.view, dir), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(m.view, dir, "1."), "text in "+dir)
		write(t, filepath.Join(m.view, dir, "cyrus.cache"), "cache")
	}
	m.lockUser("alice")
	for _, dir := range []string{"user/alice/#sieve", "domain/example.org/user/alice", "user/bob", "public", "stage."} {
		reads(t, filepath.Join(m.view, dir, "1."), "text in "+dir)
	}
	for _, dir := range []string{"a/user/alice/Sent", "u/DELETED/user/alice/5F"} {
		fails(t, filepath.Join(m.view, dir, "1."), unix.EACCES)
		reads(t, filepath.Join(m.view, dir, "cyrus.cache"), "cache")
	}
	for _, tt := range []struct {
		from, to string
		want     error
	}{
		{"a/user/alice/Sent/1.", "user/alice/2.", nil},
		{"a/user/alice/Sent/1.", "user/bob/2.", unix.EXDEV},
		{"a/user/alice/Sent/1.", "public/2.", unix.EXDEV},
		{"public/1.", "user/bob/2.", unix.EXDEV},
		{"stage./1.", "user/alice/3.", unix.EXDEV},
		{"stage./1.", "public/3.", unix.EXDEV},
		{"public/1.", "stage./3.", unix.EXDEV},
		{"stage./1.", "stage./3.", nil},
	} {
		if err := os.Link(filepath.Join(m.view, tt.from), filepath.Join(m.view, tt.to)); !errors.Is(err, tt.want) {
			t.Errorf("link %s to %s: %v, want %v", tt.from, tt.to, err, tt.want)
		}
		if tt.want == nil {
			continue
		}
		if err := os.Rename(filepath.Join(m.view, tt.from), filepath.Join(m.view, tt.to)); !errors.Is(err, tt.want) {
			t.Errorf("rename %s to %s: %v, want %v", tt.from, tt.to, err, tt.want)
		}
	}
	if leaks := grep(t, m.store, "text in"); leaks != nil {
		t.Errorf("in clear: %q", leaks)
	}
}

// TestCyrusStage checks that the key of messages on the way ends with the mount, and that the next one removes them.
func TestCyrusStage(t *testing.T) {
	store := t.TempDir()
	t.Run("before", func(t *testing.T) {
		m := mountCyrus(t, store)
		for _, dir := range []string{"stage./sub", "sync./4711", "public"} {
			if err := os.MkdirAll(filepath.Join(m.view, dir), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(m.view, dir, "left"), "on the way")
		}
		write(t, m.view+"/stage./left", "on the way")
		reads(t, m.view+"/stage./left", "on the way")
		if err := os.Symlink("../public", m.view+"/stage./link"); err != nil {
			t.Fatal(err)
		}
		if leaks := grep(t, m.store, "on the way"); leaks != nil {
			t.Errorf("in clear: %q", leaks)
		}
	})
	t.Run("cluster", func(t *testing.T) { // the other host may still be at it, and its key is not here
		m := mountCyrusWith(t, store, func(o *fs.Options) { o.Cluster = true })
		fails(t, m.view+"/stage./left", unix.EIO)
	})
	m := mountCyrus(t, store)
	for _, dir := range []string{"stage./sub", "sync./4711"} {
		if entries, err := os.ReadDir(filepath.Join(m.view, dir)); err != nil || len(entries) != 0 {
			t.Errorf("%s has %v, %v", dir, entries, err)
		}
	}
	if _, err := os.Lstat(m.view + "/stage./left"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := os.Lstat(m.view + "/stage./link"); err != nil {
		t.Error(err)
	}
	reads(t, m.view+"/public/left", "on the way")
}

func TestCyrusByHeader(t *testing.T) {
	m := mountCyrus(t, t.TempDir())
	inbox, sieve, public := m.box(t, "ab01", "user.alice"), m.box(t, "ab02", "user.alice.#sieve"), m.box(t, "ab03", "public")
	early := filepath.Join(m.view, "uuid/c/d/cd01")
	if err := os.MkdirAll(early, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{inbox, sieve, public, early} {
		write(t, dir+"/1.", "text")
	}
	rehead(t, early, "user.alice.early")
	write(t, early+"/2.", "text")
	m.lockUser("alice")
	fails(t, inbox+"/1.", unix.EACCES)
	fails(t, early+"/2.", unix.EACCES)
	for _, path := range []string{sieve + "/1.", public + "/1.", early + "/1.", inbox + "/cyrus.index", inbox + "/cyrus.header"} {
		if _, err := os.ReadFile(path); err != nil {
			t.Error(err)
		}
	}
	m.keys.lock("alice", false)
	if r := m.encrypt(t, "alice", 0); r.Done == 0 || !r.Complete() {
		t.Errorf("%+v", r)
	}
	m.lockUser("alice")
	fails(t, early+"/1.", unix.EACCES)
	reads(t, sieve+"/1.", "text")
	reads(t, public+"/1.", "text")

	rehead(t, inbox, "user.alice.renamed") // of the same user: nothing changes
	fails(t, inbox+"/1.", unix.EACCES)
	if err := os.Link(inbox+"/1.", early+"/3."); err != nil {
		t.Error(err)
	}
	if err := os.Link(inbox+"/1.", public+"/3."); !errors.Is(err, unix.EXDEV) {
		t.Error(err)
	}
}

// TestCyrusChangesHands renames a mailbox of a locked user to another one: what is in it keeps its key until that user
// is there, and then gets the new owner's.
func TestCyrusChangesHands(t *testing.T) {
	for _, to := range []account.User{"bob", ""} {
		t.Run("to "+string(to), func(t *testing.T) {
			m := mountCyrus(t, t.TempDir())
			inbox, box := m.box(t, "ab01", "user.alice"), m.box(t, "ab02", "user.alice.project")
			write(t, box+"/1.", "from alice")
			write(t, box+"/2.", "linked")
			if err := os.Link(box+"/2.", inbox+"/2."); err != nil {
				t.Fatal(err)
			}
			m.lockUser("alice")
			name := "public"
			if to != "" {
				name = "user." + string(to)
			}
			rehead(t, box, name)
			write(t, box+"/3.", "from the new owner")
			reads(t, box+"/3.", "from the new owner")
			fails(t, box+"/1.", unix.EACCES)
			if to != "" {
				m.encrypt(t, to, 0)
			}
			fails(t, box+"/1.", unix.EACCES)
			record := m.store + "/.mailcryptfs/mailboxes/ab02.toml"
			if _, err := os.Stat(record); err != nil {
				t.Error(err)
			}

			m.keys.lock("alice", false)
			reads(t, box+"/1.", "from alice")
			m.lockUser("alice")
			fails(t, box+"/1.", unix.EACCES)
			m.keys.lock("alice", false)
			if r := m.encrypt(t, "alice", 0); !r.Complete() || r.Done < 2 {
				t.Errorf("%+v", r)
			}
			m.lockUser("alice")
			reads(t, box+"/1.", "from alice")
			reads(t, box+"/2.", "linked")
			fails(t, inbox+"/2.", unix.EACCES)
			if _, err := os.Stat(record); !errors.Is(err, os.ErrNotExist) {
				t.Error("the record is still there:", err)
			}
			if to == "" {
				return
			}
			m.lockUser(to)
			for _, name := range []string{"1.", "2.", "3."} {
				fails(t, box+"/"+name, unix.EACCES)
			}
		})
	}
}

// TestCyrusForgedHeader puts the header of one mailbox into the directory of another, in the store.
func TestCyrusForgedHeader(t *testing.T) {
	m := mountCyrus(t, t.TempDir())
	alice, bob := m.box(t, "ab01", "user.alice"), m.box(t, "ab02", "user.bob")
	write(t, alice+"/1.", "text")
	low := func(part string) string { // names are sealed: find the entry by what appears
		t.Helper()
		var found string
		err := filepath.WalkDir(m.store, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && !strings.Contains(path, ".mailcryptfs") {
				var st, want unix.Stat_t
				if unix.Stat(path, &st) == nil && unix.Stat(part, &want) == nil && st.Ino == want.Ino {
					found = path
				}
			}
			return err
		})
		if err != nil || found == "" {
			t.Fatal(found, err)
		}
		return found
	}
	from, to := low(bob+"/cyrus.header"), low(alice+"/cyrus.header")
	forged, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, forged, 0o600); err != nil {
		t.Fatal(err)
	}
	reads(t, alice+"/1.", "text")
	write(t, alice+"/2.", "text")
	m.lockUser("bob")
	reads(t, alice+"/2.", "text")
	m.lockUser("alice")
	fails(t, alice+"/2.", unix.EACCES)
}
