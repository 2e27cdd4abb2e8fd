package check

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/fs/check/manifest"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// manifest makes a manifest of the store, of one user's messages or of all.
func (f *fixture) manifest(u account.User) []byte {
	f.Helper()
	var b bytes.Buffer
	w, err := manifest.NewWriter(&b, f.site.RecordMAC, manifest.Head{Created: time.Unix(1700000000, 0), User: u})
	must(f, err)
	o := f.options()
	o.User, o.WriteManifest = u, w
	f.verify(o)
	must(f, w.Close())
	return b.Bytes()
}

// compared are the findings about messages of the manifest, and the summary.
func (f *fixture) compared(b []byte, u account.User) ([]Finding, ManifestSummary) {
	f.Helper()
	x, err := LoadManifest(bytes.NewReader(b), f.site)
	must(f, err)
	o := f.options()
	o.User, o.Manifest = u, x
	found, s := f.verify(o)
	found = slices.DeleteFunc(found, func(x Finding) bool { return x.Kind != MessageGone && x.Kind != MessageReplaced })
	if s.Manifest == nil {
		f.Fatal("the summary says nothing of the manifest")
	}
	return found, *s.Manifest
}

const manifestMessages = 6

// mailboxes is a store with messages of two users in several folders, and what a manifest does not list.
func mailboxes(t *testing.T) *fixture {
	f := newFixture(t)
	f.enroll(alice)
	f.enroll(bob)
	f.message("alice/cur/1.M1.host:2,", f.now[alice], 100)
	f.message("alice/cur/2.M2.host:2,S", f.now[alice], 5000)
	f.message("alice/.Work/new/3.M3.host", f.now[alice], 9000)
	f.message("alice/cur/"+strings.Repeat("long", 60), f.now[alice], 300)
	f.message("bob@example.org/cur/1.M1.host:2,", f.now[bob], 100)
	f.message("bob@example.org/new/2.M2.host", f.deliveryKey(bob), 4010) // fills a block
	f.message("alice/tmp/9.M9.host", f.now[alice], 100)
	f.padded("alice/dovecot.index.cache", f.now[alice], 100)
	f.padded("alice/dovecot-uidlist", f.site.Meta, 100)
	return f
}

// TestManifest: what may happen to mail in daily life is no finding; what may not is one.
func TestManifest(t *testing.T) {
	rename := func(from, to string) func(*fixture) {
		return func(f *fixture) { must(f, os.Rename(f.path(from), f.path(to))) }
	}
	const one, two = "alice/cur/1.M1.host:2,", "alice/cur/2.M2.host:2,S"
	again := func(view string, ck func(f *fixture) secret.ContentKey, size int) func(*fixture) {
		return func(f *fixture) {
			must(f, os.Remove(f.path(view)))
			f.message(view, ck(f), size)
		}
	}
	current := func(f *fixture) secret.ContentKey { return f.now[alice] }
	for _, c := range []struct {
		name string
		do   func(f *fixture)
		want Kind   // "": none
		at   string // what the finding names
		sum  ManifestSummary
	}{
		{name: "nothing", do: func(*fixture) {}, sum: ManifestSummary{Present: 6}},
		{name: "flags", do: rename(one, "alice/cur/1.M1.host:2,FRS"), sum: ManifestSummary{Present: 6}},
		{name: "another folder", do: rename(one, "alice/.Work/cur/1.M1.host:2,S"), sum: ManifestSummary{Present: 6}},
		{name: "another name", do: rename(one, "alice/.Work/cur/other"), sum: ManifestSummary{Present: 6}},
		{name: "new mail", do: func(f *fixture) { f.message("alice/new/5.M5.host", f.now[alice], 50) }, sum: ManifestSummary{Present: 6, New: 1}},
		{name: "sealed anew when the user came", do: func(f *fixture) {
			must(f, os.Remove(f.path("bob@example.org/new/2.M2.host")))
			f.message("bob@example.org/cur/2.M2.host:2,", f.now[bob], 4010)
		}, sum: ManifestSummary{Present: 5, Anew: 1}},
		{name: "deleted", do: func(f *fixture) { must(f, os.Remove(f.path(two))) }, want: MessageGone, at: "/srv/mail/" + two,
			sum: ManifestSummary{Present: 5, Gone: 1}},
		{name: "a long name deleted", do: func(f *fixture) {
			path := f.path("alice/cur/" + strings.Repeat("long", 60))
			must(f, errors.Join(os.Remove(path), os.Remove(path+".n")))
		}, want: MessageGone, at: "/srv/mail/alice/cur/mc1+", sum: ManifestSummary{Present: 5, Gone: 1}},
		{name: "a folder deleted", do: func(f *fixture) { must(f, os.RemoveAll(f.path("alice/.Work"))) }, want: MessageGone,
			at: "/srv/mail/alice/.Work/new/3.M3.host", sum: ManifestSummary{Present: 5, Gone: 1}},
		{name: "an older state", do: again(two, func(f *fixture) secret.ContentKey { return f.deliveryKey(alice) }, 5000),
			want: MessageReplaced, at: "/srv/mail/" + two, sum: ManifestSummary{Present: 5, Replaced: 1}},
		{name: "another message", do: again(two, current, 5000), want: MessageReplaced, at: "/srv/mail/" + two, sum: ManifestSummary{Present: 5, Replaced: 1}},
		{name: "another size", do: again(two, current, 5001), want: MessageReplaced, at: "/srv/mail/" + two, sum: ManifestSummary{Present: 5, Replaced: 1}},
		{name: "emptied", do: func(f *fixture) { must(f, os.Truncate(f.path(two), 0)) }, want: MessageReplaced, at: "/srv/mail/" + two,
			sum: ManifestSummary{Present: 5, Replaced: 1}},
		{name: "clear text", do: func(f *fixture) {
			path := f.path(two)
			must(f, os.Remove(path))
			must(f, os.WriteFile(filepath.Join(filepath.Dir(path), "2.M2.host:2,S"), []byte("forged"), 0o600))
		}, want: MessageReplaced, at: "/srv/mail/" + two, sum: ManifestSummary{Present: 5, Replaced: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := mailboxes(t)
			b := f.manifest("")
			c.do(f)
			found, s := f.compared(b, "")
			c.sum.Created, c.sum.Messages = s.Created, manifestMessages
			if s != c.sum || !s.Created.Equal(time.Unix(1700000000, 0)) {
				t.Errorf("got %+v, want %+v: %+v", s, c.sum, found)
			}
			if c.want == "" && len(found) > 0 || c.want != "" && (len(found) != 1 || found[0].Kind != c.want || !found[0].Damage || !strings.HasPrefix(found[0].View, c.at)) {
				t.Errorf("found %+v", found)
			}
		})
	}
}

// TestManifestOfUser: a manifest of one user compares with that user alone, one of all with any.
func TestManifestOfUser(t *testing.T) {
	f := mailboxes(t)
	all, own := f.manifest(""), f.manifest(bob)
	must(t, os.Remove(f.path("bob@example.org/cur/1.M1.host:2,")))
	for name, c := range map[string]struct {
		b          []byte
		u          account.User
		gone, left int64
	}{"all, all": {all, "", 1, 5}, "all, bob": {all, bob, 1, 1}, "all, alice": {all, alice, 0, 4}, "bob, bob": {own, bob, 1, 1}} {
		if found, s := f.compared(c.b, c.u); s.Gone != c.gone || s.Present != c.left || int64(len(found)) != c.gone {
			t.Errorf("%s: %+v", name, s)
		}
	}
	x, err := LoadManifest(bytes.NewReader(own), f.site)
	must(t, err)
	for _, u := range []account.User{"", alice} {
		o := f.options()
		o.Manifest, o.User = x, u
		if _, err := Verify(t.Context(), o, func(Finding) {}); !errors.Is(err, ErrScope) {
			t.Errorf("the manifest of bob for %q: %v", u, err)
		}
	}
	if _, err := LoadManifest(bytes.NewReader(own), newSite(t)); !errors.Is(err, manifest.ErrForeign) {
		t.Errorf("another site: %v", err)
	}
}

// TestManifestWhileMoved: a message that is moved behind the walk's back is found all the same.
func TestManifestWhileMoved(t *testing.T) {
	f := mailboxes(t)
	b := f.manifest("")
	x, err := LoadManifest(bytes.NewReader(b), f.site)
	must(t, err)
	o := f.options()
	o.Manifest = x
	r, err := newRun(t.Context(), o, func(x Finding) { t.Errorf("found %+v", x) })
	must(t, err)
	defer r.close()
	must(t, r.records(nil))
	must(t, os.Rename(f.path("alice/cur/1.M1.host:2,"), f.path("alice/tmp/hidden"))) // where no message is looked for
	must(t, r.files(nil))
	must(t, os.Rename(f.path("alice/tmp/hidden"), f.path("alice/cur/1.M1.host:2,T")))
	must(t, r.settle())
	if s := r.tally.summary(0).Manifest; s.Present != manifestMessages {
		t.Errorf("%+v", s)
	}
}

// TestLinksRefused: with plain = "refuse" links that are not encrypted are reported.
func TestLinksRefused(t *testing.T) {
	f := mailboxes(t)
	must(t, os.Symlink("/etc/passwd", filepath.Join(f.path("alice"), "planted")))
	for _, c := range []struct {
		refuse, plainNames bool
		want               int
	}{{true, false, 1}, {true, true, 0}, {false, false, 0}} {
		o := f.options()
		o.RefusePlain, o.PlainNames = c.refuse, c.plainNames
		if found, s := f.verify(o); s.Findings[PlainRefused] != int64(c.want) {
			t.Errorf("%+v: %+v", c, found)
		}
	}
}
