package check

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

const (
	alice = account.User("alice")
	bob   = account.User("bob@example.org")
)

var longName = strings.Repeat("long-", 40)

// standard is a store with everything in it that a store can have: alice is unlocked, bob is locked.
func standard(t testing.TB) *fixture {
	f := newFixture(t)
	f.enroll(alice)
	f.enroll(bob)
	f.locked[bob] = true
	a, b := f.now[alice], f.now[bob]
	f.message("alice/cur/one", a, 12000)
	f.message("alice/cur/small", a, 5)
	f.message("alice/cur/exact", a, 4010)
	f.message("alice/new/"+longName, a, 5000)
	f.message("alice/new/delivered", f.deliveryKey(alice), 300)
	f.message("alice/cur/site", f.site.Delivery, 9000)
	f.padded("alice/dovecot.index.log", f.site.Meta, 12000)
	f.padded("alice/dovecot.index.cache", a, 9000)
	f.padded("alice/big", f.site.Meta, 150*4066)
	must(t, os.WriteFile(f.path("alice/cur/empty"), nil, 0o600))
	must(t, os.WriteFile(filepath.Dir(f.path("alice/cur/x"))+"/old-plain-mail", []byte("plain"), 0o600))
	must(t, os.MkdirAll(f.store+"/plain-directory", 0o700))
	f.write(filepath.Dir(f.path("alice/cur/x"))+"/mc1~named", f.site.Meta, format.Padded, 10)
	must(t, os.Symlink(f.codec.Target(f.codec.Encrypt("link"), "../elsewhere"), f.path("alice/link")))
	must(t, unix.Mkfifo(f.path("alice/fifo"), 0o600))
	attr := "user.mc1." + f.codec.SealXAttr("color")
	must(t, unix.Setxattr(f.path("alice/cur/small"), attr, f.xattrs.Seal("color", []byte("red")), 0))
	must(t, unix.Setxattr(filepath.Dir(f.path("alice/cur/x")), attr, f.xattrs.Seal("color", []byte("red")), 0))
	f.message("bob@example.org/cur/one", b, 12000)
	f.message("bob@example.org/new/delivered", f.deliveryKey(bob), 300)
	f.padded("bob@example.org/dovecot.index.cache", b, 9000)
	f.padded("bob@example.org/dovecot.index", f.site.Meta, 9000)
	return f
}

func TestCleanStore(t *testing.T) {
	t.Parallel()
	f := standard(t)
	found, s := f.verify(f.options())
	if len(found) != 0 {
		t.Errorf("findings in a store that is whole: %+v", found)
	}
	if s.Damage != 0 || s.Full.Files != 12 || s.Structure.Files != 3 || s.Plain.Files != 1 || s.Locked[bob] != 3 || len(s.Locked) != 1 {
		t.Errorf("summary %+v", s)
	}
	if s.Records != 5 || s.Directories != 8 || s.Duration <= 0 {
		t.Errorf("summary %+v", s)
	}
}

// TestNoKeys checks the same store as if everybody were locked.
func TestNoKeys(t *testing.T) {
	t.Parallel()
	f := standard(t)
	o := f.options()
	o.Keys = nil
	found, s := f.verify(o)
	if len(found) != 0 || s.Locked[alice] != 6 || s.Locked[bob] != 3 {
		t.Errorf("%+v %+v", found, s)
	}
}

// TestUndetected says what nobody can see without a key.
func TestUndetected(t *testing.T) {
	t.Parallel()
	f := standard(t)
	f.flip(f.path("bob@example.org/cur/one"), 5000)
	if found, _ := f.verify(f.options()); len(found) != 0 {
		t.Errorf("%+v", found)
	}
	f.locked[bob] = false
	if found, s := f.verify(f.options()); len(found) != 1 || found[0].Kind != BlockDamaged || len(s.Locked) != 0 {
		t.Errorf("%+v", found)
	}
}

// TestTolerated checks states that a crash may leave and that readers accept (C9, C10).
func TestTolerated(t *testing.T) {
	t.Parallel()
	f := standard(t)
	f.patch(f.path("alice/dovecot.index.log"), 3*4096, make([]byte, 2*4096)...)
	f.patch(f.path("alice/cur/empty"), 0, make([]byte, 4096)...)
	must(t, os.Truncate(f.path("alice/cur/one"), 3*4096))
	must(t, os.Truncate(f.path("alice/cur/small"), 4096))
	if found, _ := f.verify(f.options()); len(found) != 0 {
		t.Errorf("%+v", found)
	}
}

func TestPathsAndUsers(t *testing.T) {
	t.Parallel()
	f := standard(t)
	f.flip(f.path("alice/cur/one"), 5000)
	f.flip(f.path("alice/new/"+longName), 100)
	f.patch(f.path("bob@example.org/dovecot.index"), 4, 7)
	for _, tt := range []struct {
		paths []string
		user  account.User
		want  int
		files int64
	}{
		{nil, "", 3, 16},
		{[]string{"/srv/mail"}, "", 3, 16},
		{[]string{"/srv/mail/alice"}, "", 2, 12},
		{[]string{"/srv/mail/alice/cur"}, "", 1, 7},
		{[]string{"/srv/mail/alice/cur/one", "/srv/mail/alice/new"}, "", 2, 3},
		{[]string{"/srv/mail/alice/cur/small"}, "", 0, 1},
		{[]string{"/srv/mail/alice/new/" + longName}, "", 1, 1},
		{[]string{f.path("alice/new/" + longName)}, "", 1, 1},
		{[]string{filepath.Dir(f.path("bob@example.org/x"))}, "", 1, 4},
		{nil, bob, 1, 4},
		{nil, alice, 2, 12},
		{[]string{"/srv/mail/alice/cur"}, alice, 1, 7},
		{[]string{"/srv/mail/alice/cur"}, bob, 0, 0},
	} {
		o := f.options()
		o.Paths, o.User = tt.paths, tt.user
		found, s := f.verify(o)
		if len(found) != tt.want || s.Full.Files+s.Structure.Files+s.Plain.Files != tt.files {
			t.Errorf("%q %q: %+v %+v", tt.paths, tt.user, found, s)
		}
	}
	for path, want := range map[string]error{
		"/etc/passwd": ErrOutside, "/srv/mailbox": ErrOutside, f.store + "/.mailcryptfs": ErrOutside,
		"/srv/mail/alice/none": ErrNotFound, "/srv/mail/alice/cur/one/deeper": ErrNotFound, f.store + "/none": ErrNotFound,
	} {
		o := f.options()
		o.Paths = []string{path}
		if _, err := Verify(t.Context(), o, func(Finding) {}); !errors.Is(err, want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestLateKey has the daemon make a delivery key, and a file under it, after the key records were read.
func TestLateKey(t *testing.T) {
	t.Parallel()
	f := standard(t)
	late := f.newKey(bob)
	delete(f.keys[bob], late.ID)
	f.message("bob@example.org/new/late", late, 100)
	made := false
	f.hook = func(u account.User, id secret.ID) {
		if id == late.ID && !made {
			made = true
			f.writeDelivery(u, late)
		}
	}
	var found []Finding
	s, err := Verify(t.Context(), f.options(), func(x Finding) { found = append(found, x) })
	if err != nil || len(found) != 0 || !made || s.Locked[bob] != 4 {
		t.Errorf("%v, %+v, %+v", err, found, s)
	}
}

func TestForeign(t *testing.T) {
	t.Parallel()
	f := standard(t)
	o := f.options()
	o.Site = newSite(t)
	_, err := Verify(t.Context(), o, func(x Finding) { t.Errorf("%+v", x) })
	if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), f.store) {
		t.Errorf("got %v", err)
	}
	o = f.options()
	o.Store += "/none"
	if _, err := Verify(t.Context(), o, func(Finding) {}); !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), o.Store) {
		t.Errorf("got %v", err)
	}
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	f := standard(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.flip(f.path("alice/cur/one"), 0)
	o := f.options()
	o.Workers = 1
	_, err := Verify(ctx, o, func(Finding) { cancel() }) // at the end of the walk or before
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	s, err := Verify(ctx, o, func(Finding) {})
	if !errors.Is(err, context.Canceled) || s.Full.Files != 0 {
		t.Errorf("got %v, %+v", err, s)
	}
}

// TestProgress holds up the report until progress was shown.
func TestProgress(t *testing.T) {
	t.Parallel()
	f := standard(t)
	f.flip(f.path("alice/cur/one"), 5000)
	seen := make(chan Progress, 1)
	o := f.options()
	o.Workers = 1
	o.Progress = func(p Progress) {
		select {
		case seen <- p:
		default:
		}
	}
	_, err := Verify(t.Context(), o, func(Finding) {
		var p Progress
		for range 3 { // one may have waited since before the file was looked at, and one been made
			p = <-seen
		}
		if p.Files == 0 || p.Bytes == 0 || p.Path != "/srv/mail/alice/cur/one" {
			t.Errorf("got %+v", p)
		}
	})
	must(t, err)
}
