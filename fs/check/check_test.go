package check

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
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

// mutation is one kind of damage and what is to be found because of it.
type mutation struct {
	name   string
	do     func(f *fixture) string // damages the store, returns the view path of the finding, "" for none
	kind   Kind
	detail string
	blocks []int64
	option func(*Options)
}

func remove(f *fixture, path string) { must(f, os.Remove(path)) }

var contentMutations = []mutation{
	{name: "ciphertext", kind: BlockDamaged, detail: "block 1 does not authenticate", blocks: []int64{1, 1}, do: func(f *fixture) string {
		f.flip(f.path("alice/cur/one"), 5000)
		return "alice/cur/one"
	}},
	{name: "salt", kind: BlockDamaged, detail: "blocks 0 to 2: each does not authenticate", blocks: []int64{0, 2}, do: func(f *fixture) string {
		f.flip(f.path("alice/cur/one"), 30)
		return "alice/cur/one"
	}},
	{name: "tag of the last block", kind: BlockDamaged, blocks: []int64{2, 2}, do: func(f *fixture) string {
		f.flip(f.path("alice/dovecot.index.cache"), 3*4096-1)
		return "alice/dovecot.index.cache"
	}},
	{name: "zero block", kind: BlockDamaged, detail: "consists of zeros", blocks: []int64{70, 70}, do: func(f *fixture) string {
		f.patch(f.path("alice/big"), 70*4096, make([]byte, 4096)...)
		return "alice/big"
	}},
	{name: "swapped blocks", kind: BlockDamaged, blocks: []int64{63, 64}, do: func(f *fixture) string {
		b, err := os.ReadFile(f.path("alice/big"))
		must(f, err)
		f.patch(f.path("alice/big"), 63*4096, append(slices.Clone(b[64*4096:65*4096]), b[63*4096:64*4096]...)...)
		return "alice/big"
	}},
	{name: "torn block of a padded file", kind: BlockDamaged, detail: "block 3 is cut off", blocks: []int64{3, 3}, do: func(f *fixture) string {
		b, err := os.ReadFile(f.path("alice/dovecot.index.log"))
		must(f, err)
		f.patch(f.path("alice/dovecot.index.log"), 3*4096, b[4096:4096+1000]...)
		return "alice/dovecot.index.log"
	}},
	{name: "length field, user locked", kind: BlockDamaged, detail: "length that cannot be", blocks: []int64{1, 1}, do: func(f *fixture) string {
		f.patch(f.path("bob@example.org/dovecot.index.cache"), 4096+12, 0, 0)
		return "bob@example.org/dovecot.index.cache"
	}},
	{name: "final mark, user locked", kind: BlockDamaged, detail: "claims to be the last", blocks: []int64{0, 0}, do: func(f *fixture) string {
		f.patch(f.path("bob@example.org/cur/one"), 56+12, 0x8f, 0xaa)
		return "bob@example.org/cur/one"
	}},
	{name: "magic", kind: HeaderDamaged, do: func(f *fixture) string {
		f.flip(f.path("alice/cur/one"), 0)
		return "alice/cur/one"
	}},
	{name: "layout", kind: HeaderDamaged, detail: "unknown layout", do: func(f *fixture) string {
		f.patch(f.path("alice/cur/one"), 5, 9)
		return "alice/cur/one"
	}},
	{name: "first block zero", kind: HeaderDamaged, detail: "zeros", do: func(f *fixture) string {
		f.patch(f.path("alice/cur/one"), 0, make([]byte, 4096)...)
		return "alice/cur/one"
	}},
	{name: "short zeros", kind: HeaderDamaged, do: func(f *fixture) string {
		f.patch(f.path("alice/cur/empty"), 0, make([]byte, 100)...)
		return "alice/cur/empty"
	}},
	{name: "version", kind: ContentUnsupported, detail: "version 2", do: func(f *fixture) string {
		f.patch(f.path("alice/cur/one"), 4, 2)
		return "alice/cur/one"
	}},
	{name: "user key id", kind: UnknownKey, do: func(f *fixture) string {
		f.flip(f.path("alice/cur/one"), 8)
		return "alice/cur/one"
	}},
	{name: "another user's file", kind: WrongUser, detail: `under a key of "bob@example.org"`, do: func(f *fixture) string {
		f.message("alice/cur/foreign", f.now[bob], 100)
		return "alice/cur/foreign"
	}},
	{name: "an unlocked user's file, for a locked one", kind: WrongUser, detail: `under a key of "alice"`, do: func(f *fixture) string {
		f.message("bob@example.org/cur/foreign", f.now[alice], 100)
		return "bob@example.org/cur/foreign"
	}},
	{name: "file of one who is not enrolled", kind: WrongUser, do: func(f *fixture) string {
		f.message("carol/cur/foreign", f.now[alice], 100)
		return "carol/cur/foreign"
	}},
	{name: "outside of any tree", kind: WrongUser, detail: "nobody's tree", do: func(f *fixture) string {
		f.message("stray", f.now[alice], 100)
		return "stray"
	}},
	{name: "plain refused", kind: PlainRefused, option: func(o *Options) { o.RefusePlain = true }, do: func(*fixture) string {
		return "alice/cur/old-plain-mail"
	}},
	{name: "attribute's value", kind: XAttrDamaged, detail: "value", do: func(f *fixture) string {
		must(f, unix.Setxattr(f.path("alice/cur/small"), "user.mc1."+f.codec.SealXAttr("color"), []byte("0123456789012345678901234567890"), 0))
		return "alice/cur/small"
	}},
	{name: "attribute's name", kind: XAttrDamaged, detail: "name", do: func(f *fixture) string {
		must(f, unix.Setxattr(f.path("alice/cur/small"), "user.mc1.AAAAAAAAAAAAAAAAAAAAAAAAAAAA", nil, 0))
		return "alice/cur/small"
	}},
}

var endMutations = []mutation{
	{name: "at a block", kind: EndLost, do: func(f *fixture) string {
		must(f, os.Truncate(f.path("alice/cur/one"), 8192))
		return "alice/cur/one"
	}},
	{name: "within an inner block", kind: EndLost, do: func(f *fixture) string {
		must(f, os.Truncate(f.path("alice/cur/one"), 5000))
		return "alice/cur/one"
	}},
	{name: "within the last block", kind: EndLost, do: func(f *fixture) string {
		must(f, os.Truncate(f.path("alice/cur/one"), 9000))
		return "alice/cur/one"
	}},
	{name: "within a nonce", kind: EndLost, do: func(f *fixture) string {
		must(f, os.Truncate(f.path("alice/cur/one"), 4096+5))
		return "alice/cur/one"
	}},
	{name: "within the header", kind: EndLost, do: func(f *fixture) string {
		must(f, os.Truncate(f.path("alice/cur/one"), 30))
		return "alice/cur/one"
	}},
	{name: "zeros instead, user locked", kind: EndLost, do: func(f *fixture) string {
		f.patch(f.path("bob@example.org/cur/one"), 4096, make([]byte, 8192)...)
		return "bob@example.org/cur/one"
	}},
	{name: "in tmp", kind: Unfinished, do: func(f *fixture) string {
		must(f, os.Truncate(f.message("alice/tmp/new", f.now[alice], 9000), 4096))
		return "alice/tmp/new"
	}},
}

var nameMutations = []mutation{
	{name: "damaged", kind: NameDamaged, do: func(f *fixture) string {
		p := f.path("alice/cur/one")
		dir, name := filepath.Split(p)
		bad := name[:4] + "A" + name[5:] // after "mc1="
		if bad == name {
			bad = name[:4] + "B" + name[5:]
		}
		must(f, os.Rename(p, dir+bad))
		return "alice/cur/" + bad
	}},
	{name: "damaged directory", kind: NameDamaged, do: func(f *fixture) string {
		must(f, os.Rename(filepath.Dir(f.path("alice/cur/x")), f.store+"/mc1=AAAA"))
		return "mc1=AAAA"
	}},
	{name: "unsupported", kind: NameUnsupported, do: func(f *fixture) string {
		must(f, os.WriteFile(filepath.Dir(f.path("alice/cur/x"))+"/mc2=abc", []byte("what is this"), 0o600))
		return "alice/cur/mc2=abc"
	}},
	{name: "no side entry", kind: SideMissing, do: func(f *fixture) string {
		s := f.codec.Encrypt(longName)
		remove(f, f.path("alice/new/"+longName)+".n")
		return "alice/new/" + s.Name
	}},
	{name: "another's side entry", kind: SideWrong, do: func(f *fixture) string {
		must(f, os.WriteFile(f.path("alice/new/"+longName)+".n", f.codec.SideContent(longName+"x"), 0o600))
		return "alice/new/" + f.codec.Encrypt(longName).Name
	}},
	{name: "side entry too long", kind: SideWrong, do: func(f *fixture) string {
		must(f, os.WriteFile(f.path("alice/new/"+longName)+".n", make([]byte, 5000), 0o600))
		return "alice/new/" + f.codec.Encrypt(longName).Name
	}},
	{name: "orphan", kind: SideOrphan, do: func(f *fixture) string {
		remove(f, f.path("alice/new/"+longName))
		return ""
	}},
	{name: "temporary file", kind: Leftover, do: func(f *fixture) string {
		f.write(filepath.Dir(f.path("alice/cur/x"))+"/mc1!abcdefghijklmnopqrstuv", f.now[alice], format.WriteOnce, 100)
		return ""
	}},
	{name: "link", kind: LinkDamaged, do: func(f *fixture) string {
		remove(f, f.path("alice/link"))
		must(f, os.Symlink("/etc/passwd", f.path("alice/link")))
		return "alice/link"
	}},
	{name: "plain shadowed", kind: Shadowed, do: func(f *fixture) string {
		must(f, os.WriteFile(filepath.Dir(f.path("alice/cur/x"))+"/one", []byte("mail"), 0o600))
		return "alice/cur/one"
	}},
	{name: "plain-named shadowed", kind: Shadowed, do: func(f *fixture) string {
		f.write(filepath.Dir(f.path("alice/cur/x"))+"/mc1~one", f.now[alice], format.WriteOnce, 100)
		return "alice/cur/one"
	}},
}

func TestMutations(t *testing.T) {
	t.Parallel()
	for group, mutations := range map[string][]mutation{"content": contentMutations, "end": endMutations, "name": nameMutations} {
		for _, m := range mutations {
			t.Run(group+"/"+m.name, func(t *testing.T) {
				t.Parallel()
				f := standard(t)
				o := f.options()
				if m.option != nil {
					m.option(&o)
				}
				view := m.do(f)
				if view != "" {
					view = "/srv/mail/" + view
				}
				found, s := f.verify(o)
				if len(found) != 1 {
					t.Fatalf("%d findings: %+v", len(found), found)
				}
				got := found[0]
				if got.Kind != m.kind || got.View != view || !strings.Contains(got.Detail, m.detail) || !slices.Equal(got.Blocks, m.blocks) {
					t.Errorf("got %+v, want %s in %s with %q %v", got, m.kind, view, m.detail, m.blocks)
				}
				if _, err := os.Lstat(got.Store); err != nil || got.Damage == m.kind.Informational() || s.Findings[m.kind] != 1 {
					t.Errorf("%v, %+v, %+v", err, got, s)
				}
			})
		}
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
