package hostile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// twoUsers is a view with a message of each of two users, who are unlocked.
func twoUsers(t *testing.T, o harness.Options) (s *harness.Site, alice, bob string) {
	t.Helper()
	s = harness.Start(t, o)
	s.Enroll(t, "alice", "bob")
	s.Unlock(t, "alice", "bob")
	alice = harness.Maildir(t, vmail, s.View, "alice") + "/cur/1.alice.host"
	bob = harness.Maildir(t, vmail, s.View, "bob") + "/cur/1.bob.host"
	deliver(t, alice, text("alice", "message", 0, 9000))
	deliver(t, bob, text("bob", "message", 0, 9000))
	return s, alice, bob
}

// TestHardLinkOfAnotherUser: a hard link in the store from one user's tree to another's message opens for its owner alone,
// whoever looked first and whatever is open or cached.
func TestHardLinkOfAnotherUser(t *testing.T) {
	secret := text("bob", "message", 0, 9000)
	for _, c := range []struct {
		name string
		warm func(t *testing.T, bob, linked string)
	}{
		{"nobody looked", func(*testing.T, string, string) {}},
		{"the owner looked", func(t *testing.T, bob, _ string) { readable(t, bob, secret) }},
		{"the owner has it open", func(t *testing.T, bob, _ string) {
			p := harness.Spawn(t, "hold", bob)
			p.Expect(t, "9000")
		}},
		{"the thief looked first", func(t *testing.T, bob, linked string) {
			_, _ = read(linked)
			readable(t, bob, secret)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, alice, bob := twoUsers(t, harness.Options{})
			from, to := storePath(t, s, bob), filepath.Dir(storePath(t, s, alice))
			s.Stop(t)
			must(t, os.Link(from, filepath.Join(to, filepath.Base(from))))
			s.Serve(t)
			announceDamage(s)
			linked := filepath.Join(filepath.Dir(alice), filepath.Base(bob))
			c.warm(t, bob, linked)
			for range 2 {
				if got, err := read(linked); err == nil || len(got) > 0 {
					t.Errorf("bob's message can be read in alice's tree: %d bytes, %v", len(got), err)
				}
			}
			if fd, err := unix.Open(linked, unix.O_WRONLY|unix.O_TRUNC, 0); err == nil {
				_ = unix.Close(fd)
				t.Error("bob's message can be written in alice's tree")
			}
			readable(t, bob, secret)
			readable(t, alice, text("alice", "message", 0, 9000))
			must(t, os.Remove(linked))
			readable(t, bob, secret)
		})
	}
}

// TestPlantedLink: with plain = "refuse" nobody who writes to the store can have the mail server follow a link of his making.
func TestPlantedLink(t *testing.T) {
	s, alice, bob := twoUsers(t, harness.Options{Plain: "refuse"})
	dir := filepath.Dir(storePath(t, s, alice))
	box := filepath.Dir(dir)
	s.Stop(t)
	must(t, os.Symlink(bob, filepath.Join(dir, "2.planted.host")))
	must(t, os.Symlink("/etc/passwd", filepath.Join(box, "dovecot-uidlist")))
	must(t, os.Symlink(filepath.Dir(filepath.Dir(bob)), filepath.Join(box, ".Planted")))
	s.Serve(t)
	announceDamage(s)
	root := filepath.Dir(filepath.Dir(alice))
	for _, path := range []string{filepath.Dir(alice) + "/2.planted.host", root + "/dovecot-uidlist", root + "/.Planted/cur/1.bob.host"} {
		if b, err := os.ReadFile(path); err == nil {
			t.Errorf("%s leads to %d bytes of somebody else", path, len(b))
		}
	}
	// Links of the users themselves go on to work.
	must(t, os.Symlink("cur/1.alice.host", root+"/own"))
	b, err := os.ReadFile(root + "/own")
	if err != nil || !bytes.Equal(b, text("alice", "message", 0, 9000)) {
		t.Errorf("a link that was made in the view: %v", err)
	}
	if err := os.Remove(filepath.Dir(alice) + "/2.planted.host"); err != nil && !errors.Is(err, unix.EACCES) {
		t.Error(err)
	}
}

// TestMovedTrees: directories of one user in the place of another's give no private content, whoever is unlocked.
func TestMovedTrees(t *testing.T) {
	s, alice, bob := twoUsers(t, harness.Options{})
	a, b := filepath.Dir(filepath.Dir(storePath(t, s, alice))), filepath.Dir(filepath.Dir(storePath(t, s, bob)))
	s.Stop(t)
	must(t, unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE))
	s.Serve(t)
	announceDamage(s)
	for _, path := range []string{filepath.Dir(alice) + "/1.bob.host", filepath.Dir(bob) + "/1.alice.host"} {
		if got, err := read(path); !errors.Is(err, unix.EIO) || len(got) > 0 {
			t.Errorf("%s: %d bytes, %v, want EIO", path, len(got), err)
		}
	}
	s.Stop(t)
	must(t, unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE))
	s.Serve(t)
	readable(t, alice, text("alice", "message", 0, 9000))
	readable(t, bob, text("bob", "message", 0, 9000))
}
