package view

import (
	"os"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"golang.org/x/sys/unix"
)

// fill makes one of everything that carries a name or content, and returns what must not be found in clear.
func fill(t *testing.T, s *harness.Site) (namesUsed, contents []string) {
	t.Helper()
	long := strings.Repeat("long-name-needle-", 14)
	for _, user := range []string{"alice", "bob", "nobody"} {
		box := harness.Maildir(t, vmail, s.View, user)
		deliver(t, box, "file-name-needle,S=9000", message("needle-"+user, 9000))
		deliver(t, box, long, message("needle-"+user, 100))
		harness.Maildir(t, vmail, box, ".folder-name-needle")
		must(t, os.Symlink("target-needle", box+"/link-name-needle"))
		must(t, os.WriteFile(box+"/subscriptions", []byte("subscription-needle\n"), 0o600))
		must(t, os.WriteFile(box+"/dovecot.index.cache", []byte(strings.Repeat("cache-needle ", 1000)), 0o600))
		must(t, unix.Setxattr(box+"/subscriptions", "user.xattr-name-needle", []byte("xattr-value-needle"), 0))
		must(t, unix.Mkfifo(box+"/fifo-name-needle", 0o600))
	}
	must(t, os.WriteFile(s.View+"/root-name-needle", []byte("root-content-needle"), 0o600))
	return []string{"file-name-needle", "long-name-needle", "folder-name-needle", "link-name-needle", "xattr-name-needle", "fifo-name-needle", "root-name-needle", "subscriptions"},
		[]string{"needle-alice", "needle-bob", "needle-nobody", "target-needle", "subscription-needle", "cache-needle", "xattr-value-needle", "root-content-needle"}
}

// TestNothingInClear searches every byte of the store's filesystem, its journal and free space too, and the keyring
// directory, for names and contents of an unlocked, a locked and a not enrolled user.
func TestNothingInClear(t *testing.T) {
	s := harness.Start(t, harness.Options{Profile: "dovecot-maildir"})
	s.Enroll(t, "alice", "bob")
	s.Unlock(t, "alice")
	n, c := fill(t, s)
	all := append(append(n, c...), string(harness.Password("alice")), string(harness.Password("bob")))
	noClear(t, s, all...)
	s.Stop(t)
	noClear(t, s, all...)
}

// TestPlainNames: with names = "plain" the names are in the store as they are, and still no content is.
func TestPlainNames(t *testing.T) {
	s := harness.Start(t, harness.Options{Profile: "dovecot-maildir", Names: "plain"})
	s.Enroll(t, "alice", "bob")
	s.Unlock(t, "alice")
	n, c := fill(t, s)
	for _, needle := range n {
		if needle == "xattr-name-needle" || needle == "long-name-needle" {
			continue // attributes are always sealed, and so are names that leave no room for the mark
		}
		if found := harness.FindClear(t, []string{needle}, s.Store); len(found) == 0 {
			t.Errorf("the name %q is not to be found in the store", needle)
		}
	}
	for i, needle := range c {
		if needle == "target-needle" { // as the name of a link, its target is not sealed
			c = append(c[:i:i], c[i+1:]...)
			break
		}
	}
	noClear(t, s, c...)
	s.Stop(t)
	s.Serve(t)
	readable(t, s.View+"/alice/new/file-name-needle,S=9000", message("needle-alice", 9000))
	refused(t, s.View+"/bob/new/file-name-needle,S=9000")
}

// TestGuard: without the daemon nobody writes into the bare mount point.
func TestGuard(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Stop(t)
	if st := stat(t, s.View); st.Mode&0o777 != 0 || st.Uid != 0 {
		t.Errorf("the bare mount point: mode %o, uid %d", st.Mode&0o777, st.Uid)
	}
	if err := os.Mkdir(s.View+"/mail", 0o700); err == nil {
		t.Error("root can make a directory in the bare mount point")
	}
	s.Serve(t)
	must(t, os.Mkdir(s.View+"/mail", 0o700))
}

// TestWrongSecret: a store is not served with another site's secret.
func TestWrongSecret(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice")
	path := deliver(t, harness.Maildir(t, vmail, s.View, "alice"), "m", message("x", 100))
	s.Stop(t)
	other := harness.New(t, harness.Options{})
	own, err := os.ReadFile(s.Secret)
	must(t, err)
	wrong, err := os.ReadFile(other.Secret)
	must(t, err)
	replace := func(secret []byte) {
		t.Helper()
		must(t, os.WriteFile(s.Secret+".new", secret, 0o400))
		must(t, os.Rename(s.Secret+".new", s.Secret))
	}
	replace(wrong)
	s.Announce(`store\.toml|site secret`)
	if err := s.TryServe(t); err == nil {
		t.Fatal("the daemon serves a store with another site's secret")
	}
	if s.Mounted() {
		t.Error("something is mounted")
	}
	replace(own)
	s.Serve(t)
	s.Unlock(t, "alice")
	readable(t, path, message("x", 100))
}

// TestKeyringInMemory: a keyring directory on a disk gets a tmpfs; no entry reaches the disk.
func TestKeyringInMemory(t *testing.T) {
	s := harness.New(t, harness.Options{})
	disk := s.StoreFS + "/keyring"
	must(t, os.Mkdir(disk, 0o700))
	must(t, unix.Mount(disk, s.Keyring, "", unix.MS_BIND, ""))
	t.Cleanup(func() {
		for unix.Unmount(s.Keyring, unix.MNT_DETACH) == nil {
			continue
		}
	})
	s.Serve(t)
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	var st unix.Statfs_t
	must(t, unix.Statfs(s.Keyring, &st))
	if st.Type != unix.TMPFS_MAGIC && st.Type != unix.RAMFS_MAGIC {
		t.Errorf("the keyring directory has filesystem type %x", st.Type)
	}
	if n := names(t, s.Keyring); len(n) != 1 {
		t.Errorf("entries: %q", n)
	}
	if n := names(t, disk); len(n) != 0 {
		t.Errorf("on disk: %q", n)
	}
	s.Stop(t)
}
