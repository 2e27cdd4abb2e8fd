package check

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
)

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
