package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

func newKey(t testing.TB, b byte) *secret.Key {
	t.Helper()
	k, err := secret.NewKey(bytes.Repeat([]byte{b}, secret.Size))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

func entries(t testing.TB, mac *secret.Key) []Entry {
	var all []Entry
	for i, place := range []struct {
		user   account.User
		folder string
	}{{"alice", "mc1=AAAA/cur"}, {"", "lost and found"}, {"bob@exämple.org", "mc1~b\nob/%41/new"}, {"bob@exämple.org", "-"}, {"-", ""}} {
		for j := range 3 {
			tag, err := TagOf(fmt.Sprintf("%d.M%d.host:2,S", i, j), mac)
			if err != nil {
				t.Fatal(err)
			}
			e := Entry{User: place.user, Folder: place.folder, Name: fmt.Sprintf("mc1=%d ü", j), Tag: tag, Size: int64(i * j), Key: secret.RandomID()}
			e.Salt[j] = byte(i)
			all = append(all, e)
		}
	}
	return all
}

func write(t testing.TB, mac *secret.Key, h Head, all []Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, mac, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if err := w.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	mac := newKey(t, 1)
	for _, h := range []Head{{Created: time.Unix(1700000000, 0).UTC()}, {Created: time.Unix(0, 0).UTC(), User: "ö x"}} {
		want := entries(t, mac)
		b := write(t, mac, h, want)
		var got []Entry
		head, err := Read(bytes.NewReader(b), mac, func(e Entry) error { got = append(got, e); return nil })
		if err != nil || head != h || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v, %v\ngot  %v\nwant %v", head, err, got, want)
		}
	}
}

// TestTag: flags do not change a tag, and another key gives another.
func TestTag(t *testing.T) {
	mac := newKey(t, 1)
	tags := map[Tag]string{}
	for _, name := range []string{"1.M1.host", "2.M1.host", ""} {
		a, err := TagOf(name, mac)
		b, err2 := TagOf(name+":2,FS", mac)
		if err != nil || err2 != nil || a != b {
			t.Errorf("%q: %v, %v", name, err, err2)
		}
		c, _ := TagOf(name, newKey(t, 2))
		for _, x := range []Tag{a, c} {
			if tags[x] != "" {
				t.Errorf("%q and %q have one tag", name, tags[x])
			}
			tags[x] = name
		}
	}
}

func none(Entry) error { return nil }

// TestChanged: no byte of a manifest can be changed, taken away or added.
func TestChanged(t *testing.T) {
	mac := newKey(t, 1)
	good := write(t, mac, Head{Created: time.Unix(1700000000, 0)}, entries(t, mac))
	for i := range good {
		for _, bit := range []byte{1, 0x20, 0x80} {
			b := bytes.Clone(good)
			b[i] ^= bit
			if _, err := Read(bytes.NewReader(b), mac, none); err == nil {
				t.Fatalf("byte %d with another bit %#x is taken", i, bit)
			}
		}
		if _, err := Read(bytes.NewReader(good[:i]), mac, none); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnsupported) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	if _, err := Read(bytes.NewReader(append(bytes.Clone(good), '\n')), mac, none); !errors.Is(err, ErrCorrupt) {
		t.Errorf("with a line more: %v", err)
	}
	lines := strings.SplitAfter(string(good), "\n")
	without := strings.Join(append(lines[:5:5], lines[6:]...), "")
	if _, err := Read(strings.NewReader(strings.Replace(without, "messages 15", "messages 14", 1)), mac, none); !errors.Is(err, ErrForeign) {
		t.Errorf("without a message: %v", err)
	}
}

func TestForeign(t *testing.T) {
	b := write(t, newKey(t, 1), Head{}, nil)
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"another site":    {string(b), ErrForeign},
		"another version": {strings.Replace(string(b), "manifest 1", "manifest 2", 1), ErrUnsupported},
		"empty":           {"", ErrCorrupt},
		"another file":    {"root:x:0:0::/root:/bin/sh\n", ErrCorrupt},
		"a long line":     {strings.Repeat("x", 1<<20), ErrCorrupt},
	} {
		if _, err := Read(strings.NewReader(c.text), newKey(t, 2), none); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// FuzzRead: whatever is read without an error but for the MAC would be written the same.
func FuzzRead(f *testing.F) {
	mac := newKey(f, 1)
	good := write(f, mac, Head{Created: time.Unix(1700000000, 0)}, entries(f, mac))
	f.Add(good)
	f.Add(good[:100])
	f.Add(write(f, mac, Head{User: "a"}, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var all []Entry
		h, err := Read(bytes.NewReader(b), mac, func(e Entry) error { all = append(all, e); return nil })
		if err == nil && !bytes.Equal(write(t, mac, h, all), b) {
			t.Errorf("%q was taken, but would be written in another way", b)
		}
	})
}
