package fs_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

func mountCyrus(t *testing.T, store string) mount {
	t.Helper()
	return mountCyrusWith(t, store, func(*fs.Options) {})
}

// mountCyrusWith mounts under one and the same site secret each time.
func mountCyrusWith(t *testing.T, store string, adapt func(*fs.Options)) mount {
	t.Helper()
	if err := os.MkdirAll(store+"/.mailcryptfs", 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := site.Derive(bytes.Repeat([]byte{7}, secret.Size))
	if err != nil {
		t.Fatal(err)
	}
	return mountWith(t, store, func(o *fs.Options) {
		o.Layout.Profile, o.Site = "cyrus", s
		adapt(o)
	})
}

const cyrusMagic = "\241\002\213\015Cyrus mailbox header\n" +
	"\"The best thing about this system was that it had lots of goals.\"\n" +
	"\t--Jim Morris on Andrew\n"

// box makes the directory of a mailbox as Cyrus does: index first, then the header by rename.
func (m mount) box(t *testing.T, id, mailbox string) string {
	t.Helper()
	dir := filepath.Join(m.view, "uuid", id[:1], id[1:2], id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/cyrus.index", "index")
	rehead(t, dir, mailbox)
	return dir
}

// rehead rewrites a header.
func rehead(t *testing.T, dir, mailbox string) {
	t.Helper()
	write(t, dir+"/cyrus.header.NEW", cyrusMagic+"%(T e N "+mailbox+" I "+filepath.Base(dir)+" A %(alice lrswipkxtecdan))\n")
	if err := os.Rename(dir+"/cyrus.header.NEW", dir+"/cyrus.header"); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func reads(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s: %q, %v; want %q", path, got, err, want)
	}
}

func fails(t *testing.T, path string, want unix.Errno) {
	t.Helper()
	if _, err := os.ReadFile(path); !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", path, err, want)
	}
	if info, err := os.Lstat(path); err != nil || info.Size() == 0 {
		t.Errorf("%s: %v, %v", path, info, err)
	}
}

// lockUser is what the daemon does when a user's keys go.
func (m mount) lockUser(u account.User) {
	m.keys.lock(u, true)
	m.KeysGone(u)
}
