package check

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/content"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/former"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

func headerText(mailbox, id string) []byte {
	return []byte("\241\002\213\015Cyrus mailbox header\n\"The best thing about this system was that it had lots of goals.\"\n" +
		"\t--Jim Morris on Andrew\n%(T e N " + mailbox + " I " + id + ")\n")
}

// header makes the header of a mailbox in a directory, by paths of the view.
func (f *fixture) header(dir, mailbox, id string) string {
	f.Helper()
	stored := f.path(dir + "/cyrus.header")
	d, err := backing.OpenRoot(filepath.Dir(stored))
	must(f, err)
	defer d.Release()
	low, err := d.Create(filepath.Base(stored), 0o600, backing.Owner{})
	must(f, err)
	defer low.Close()
	c, err := content.Open(low, 0, fileKeys{f.site.Meta, format.Padded})
	must(f, err)
	_, err = c.WriteAt(headerText(mailbox, id), 0)
	must(f, err)
	return stored
}

func (f *fixture) former(id string, users ...account.User) string {
	f.Helper()
	b, err := former.Encode(id, users, f.site.RecordMAC)
	must(f, err)
	dir := f.store + "/.mailcryptfs/" + former.DirName
	must(f, os.MkdirAll(dir, 0o700))
	name, _ := former.FileName(id)
	must(f, os.WriteFile(dir+"/"+name, b, 0o600))
	return dir + "/" + name
}

// cyrusStore is a whole store of Cyrus: alice is unlocked, bob is locked.
func cyrusStore(t testing.TB) (*fixture, Options) {
	f := newFixture(t)
	f.enroll(alice)
	f.enroll(bob)
	f.locked[bob] = true
	a, b := f.now[alice], f.now[bob]
	f.message("a/user/alice/1.", a, 5000)
	f.message("domain/e/example.org/b/user/bob/Sent/1.", b, 5000)
	f.message("u/DELETED/user/alice/5F/1.", a, 500)
	f.header("uuid/a/b/ab01", "user.alice", "ab01")
	f.message("uuid/a/b/ab01/1.", a, 5000)
	f.header("uuid/a/b/ab02", "example.org!user.bob.taken-over", "ab02")
	f.message("uuid/a/b/ab02/1.", a, 5000)
	f.message("uuid/a/b/ab02/2.", b, 5000)
	f.former("ab02", alice)
	f.message("uuid/a/b/ab03/1.", f.site.Meta, 5000) // its header is to come
	f.message("stage./4711-1-0", f.newKey("nobody"), 5000)
	o := f.options()
	o.Profile = "cyrus"
	return f, o
}

func TestCyrusStore(t *testing.T) {
	t.Parallel()
	f, o := cyrusStore(t)
	found, s := f.verify(o)
	if len(found) != 0 || s.Damage != 0 || s.Locked[bob] != 2 || len(s.Locked) != 1 || s.Full.Files != 7 || s.Structure.Files != 3 {
		t.Errorf("%+v, %+v", found, s)
	}
	for _, u := range []account.User{alice, bob} {
		o.User = u
		if found, s := f.verify(o); len(found) != 0 || s.Full.Files+s.Structure.Files != map[account.User]int64{alice: 4, bob: 4}[u] {
			t.Errorf("%s: %+v, %+v", u, found, s)
		}
	}
	o.User = ""
	for path, files := range map[string]int64{"uuid/a/b/ab02": 3, "uuid/a/b/ab02/1.": 1, "uuid/a": 6} {
		o.Paths = []string{"/srv/mail/" + path}
		if found, s := f.verify(o); len(found) != 0 || s.Full.Files+s.Structure.Files != files {
			t.Errorf("%s: %+v, %+v", path, found, s)
		}
	}
}

func TestCyrusStoreDamaged(t *testing.T) {
	t.Parallel()
	f, o := cyrusStore(t)
	kinds := func() (out []Kind) {
		found, _ := f.verify(o)
		for _, x := range found {
			out = append(out, x.Kind)
		}
		slices.Sort(out)
		return out
	}
	record := f.former("ab02", "carol")
	if got := kinds(); !slices.Equal(got, []Kind{WrongUser}) {
		t.Errorf("alice not among the former owners: %q", got)
	}
	f.flip(record, 100)
	if got := kinds(); !slices.Equal(got, []Kind{RecordDamaged, WrongUser}) {
		t.Errorf("record changed: %q", got)
	}
	f.former("ab02", alice)
	f.header("uuid/a/b/ab03", "user.alice", "ab01") // that of another directory
	if got := kinds(); !slices.Equal(got, []Kind{MailboxHeader}) {
		t.Errorf("foreign header: %q", got)
	}
	f.message("user/alice/1.", secret.ContentKey{ID: secret.RandomID(), Key: f.site.Meta.Key}, 10)
	if got := kinds(); !slices.Equal(got, []Kind{MailboxHeader, UnknownKey}) {
		t.Errorf("unknown key: %q", got)
	}
}
