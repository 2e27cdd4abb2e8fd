package names

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/seal"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

// otherCodec returns a codec of another site.
func otherCodec(t testing.TB) *Codec {
	t.Helper()
	k, err := site.Derive(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	n, err := seal.NewNames(k.NamesMAC, k.NamesEnc)
	if err != nil {
		t.Fatal(err)
	}
	return New(n, false)
}

// FuzzDecode: a stored name that decodes to a view name is one that this view name can be stored under; all others show
// as they are, or not at all.
func FuzzDecode(f *testing.F) {
	c, _ := newCodec(f, false)
	f.Fuzz(func(t *testing.T, stored string, root bool) {
		if Check(stored) != nil {
			return
		}
		name, s := c.Decode(stored, root)
		if s.Name != stored {
			t.Fatalf("stored name %q became %q", stored, s.Name)
		}
		switch {
		case s.Kind == Hidden || s.Long:
			if name != "" {
				t.Fatalf("%q shows as %q", stored, name)
			}
			return
		case s.Kind.Broken() || s.Kind == Plain:
			if name != stored {
				t.Fatalf("%q shows as %q", stored, name)
			}
		case Check(name) != nil:
			t.Fatalf("%q shows as %q, which is no name", stored, name)
		}
		var all []Stored
		c.Candidates(name, root, func(s Stored) bool {
			all = append(all, s)
			return false
		})
		if !slices.ContainsFunc(all, func(x Stored) bool { return x.Name == stored && x.Kind == s.Kind }) {
			t.Fatalf("%q, kind %d, shows as %q, under which it is not found", stored, s.Kind, name)
		}
	})
}

// FuzzName: every view name can be stored in every way, and reads back.
func FuzzName(f *testing.F) {
	hidden, _ := newCodec(f, false)
	plain, _ := newCodec(f, true)
	f.Fuzz(func(t *testing.T, name string, regular, root bool) {
		if Check(name) != nil {
			return
		}
		for _, c := range []*Codec{hidden, plain} {
			s := c.Create(name, regular, root)
			if Check(s.Name) != nil || len(s.Name) > MaxStored {
				t.Fatalf("%q is stored as %q", name, s.Name)
			}
			if got := viewOf(t, c, s.Name, root, c.SideContent(name)); got != name {
				t.Fatalf("%q is stored as %q, which reads as %q", name, s.Name, got)
			}
		}
	})
}

// FuzzOpenSide: a side entry opens only for the one entry that it was written for. The fuzzer changes a good one.
func FuzzOpenSide(f *testing.F) {
	c, _ := newCodec(f, false)
	f.Fuzz(func(t *testing.T, name string, raw []byte, at uint16, bit uint8) {
		if Check(name) != nil {
			return
		}
		s := c.Encrypt(name)
		if got, err := c.OpenSide(s, raw); err == nil && (got != name || !bytes.Equal(raw, c.SideContent(name))) {
			t.Fatalf("%x opens to %q", raw, got)
		}
		side := c.SideContent(name)
		if got, err := c.OpenSide(s, side); s.Long && (err != nil || got != name) || !s.Long && err == nil {
			t.Fatalf("%q: %q, %v", name, got, err)
		}
		side[int(at)%len(side)] ^= 1 << (bit % 8)
		if got, err := c.OpenSide(s, side); err == nil {
			t.Fatalf("a changed side entry opens to %q", got)
		}
	})
}

// FuzzOpenTarget: a target that opens is stored in one way only.
func FuzzOpenTarget(f *testing.F) {
	c, _ := newCodec(f, false)
	s := Stored{Kind: Encrypted}
	f.Fuzz(func(t *testing.T, stored, target string) {
		if got, err := c.OpenTarget(s, stored); err == nil && c.Target(s, got) != stored {
			t.Fatalf("%q opens to %q, which is stored otherwise", stored, got)
		}
		if target == "" {
			return
		}
		stored = c.Target(s, target)
		if got, err := c.OpenTarget(s, stored); err != nil || got != target || TargetSize(Encrypted, int64(len(stored))) != int64(len(target)) {
			t.Fatalf("%q is stored as %q, which opens to %q, %v", target, stored, got, err)
		}
	})
}

// FuzzOpenXAttr: the name of an attribute that opens is stored in one way only.
func FuzzOpenXAttr(f *testing.F) {
	c, _ := newCodec(f, false)
	f.Fuzz(func(t *testing.T, stored, name string) {
		if got, err := c.OpenXAttr(stored); err == nil && c.SealXAttr(got) != stored {
			t.Fatalf("%q opens to %q, which is stored otherwise", stored, got)
		}
		if name == "" {
			return
		}
		stored = c.SealXAttr(name)
		if got, err := c.OpenXAttr(stored); err != nil || got != name || strings.ContainsAny(stored, "/\x00") {
			t.Fatalf("%q is stored as %q, which opens to %q, %v", name, stored, got, err)
		}
	})
}
