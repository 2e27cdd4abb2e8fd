package view

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"golang.org/x/sys/unix"
)

// damage is one way to spoil a stored file; blocks are 4096 bytes, the header the first 56 of block 0 (FORMAT.md C3).
type damage struct {
	name  string
	spoil func(b []byte) []byte
	pages []int64 // pages of the view, of 4096 bytes, that touch no block that was spoilt: these must still read
}

func flip(offsets ...int) func([]byte) []byte {
	return func(b []byte) []byte {
		for _, o := range offsets {
			b[(o+len(b))%len(b)] ^= 0x40
		}
		return b
	}
}

func damages() []damage {
	return []damage{
		{"magic", flip(0), nil},
		{"version", flip(4), nil},
		{"layout", flip(5), nil},
		{"reserved", flip(6), nil},
		{"key id", flip(8), nil},
		{"salt", flip(24), nil},
		{"nonce of block 0", flip(56), nil},
		{"length of block 0", flip(69), nil},
		{"block 0", flip(2000), nil},
		{"block 1", flip(4096 + 2000), []int64{3}},
		{"last block", flip(-3), []int64{0, 1}},
		{"cut by a byte", func(b []byte) []byte { return b[:len(b)-1] }, nil},
		{"cut at a block", func(b []byte) []byte { return b[:8192] }, nil},
		{"zero blocks appended", func(b []byte) []byte { return append(b, make([]byte, 5000)...) }, nil},
		{"blocks swapped", func(b []byte) []byte {
			return append(append(append(bytes.Clone(b[:4096]), b[8192:12288]...), b[4096:8192]...), b[12288:]...)
		}, []int64{3}},
		{"rubbish", func(b []byte) []byte { return bytes.Repeat([]byte("x"), len(b)) }, nil},
		{"header only", func(b []byte) []byte { return b[:56] }, nil},
	}
}

// TestDamage: a damaged file is an error for that file alone, told once, with both paths; it can still be moved and removed.
func TestDamage(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	box := harness.Maildir(t, vmail, s.View, "alice")
	good := deliver(t, box, "good", message("good", 14000))
	broken := map[string]string{} // name of the damage to store path
	for _, d := range damages() {
		broken[d.name] = stored(t, s, func() { deliver(t, box, d.name, message(d.name, 14000)) })
	}
	s.Stop(t) // which also empties every cache
	for _, d := range damages() {
		b, err := os.ReadFile(broken[d.name])
		must(t, err)
		must(t, os.WriteFile(broken[d.name], d.spoil(b), 0o600))
	}
	s.Announce(`cannot convert an entry|a conversion is not complete`) // the worker finds them too, a second after the start
	s.Serve(t)
	for _, d := range damages() {
		t.Run(d.name, func(t *testing.T) { damaged(t, s, d, box+"/new/"+d.name, broken[d.name]) })
	}
	readable(t, good, message("good", 14000))
	readable(t, deliver(t, box, "after", message("after", 100)), message("after", 100))
	if len(names(t, box+"/new")) != 2 {
		t.Errorf("left in new: %q", names(t, box+"/new"))
	}
}

func damaged(t *testing.T, s *harness.Site, d damage, view, store string) {
	rel, err := filepath.Rel(s.Store, store)
	must(t, err)
	alert := regexp.QuoteMeta(filepath.Base(rel))
	s.Announce(alert)
	for range 3 {
		got, err := os.ReadFile(view)
		if !errors.Is(err, unix.EIO) {
			t.Fatalf("%v and %d bytes, want EIO", err, len(got))
		}
		if want := message(d.name, 14000); !bytes.HasPrefix(want, got) {
			t.Error("something else than the beginning of the message was read before the error")
		}
	}
	if len(d.pages) > 0 {
		f, err := os.Open(view)
		must(t, err)
		for _, page := range d.pages {
			want := message(d.name, 14000)[page*4096:]
			b := make([]byte, min(4096, len(want)-100))
			if n, err := f.ReadAt(b, page*4096); err != nil || !bytes.HasPrefix(want, b[:n]) {
				t.Errorf("page %d, which is whole: %v", page, err)
			}
		}
		must(t, f.Close())
	}
	told := 0
	for _, line := range s.WaitLog(t, alert) {
		if strings.Contains(line, filepath.Base(view)) {
			told++
		}
	}
	if told != 1 {
		t.Errorf("%d lines of the log name the view path and the store path, want 1: %q", told, s.WaitLog(t, alert))
	}
	stat(t, view)
	must(t, os.Rename(view, view+".bad"))
	must(t, os.Remove(view+".bad"))
}

// TestDamagedNames: entries whose names do not open are shown, cannot be opened, and can be removed.
func TestDamagedNames(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	box := harness.Maildir(t, vmail, s.View, "alice")
	good := deliver(t, box, "good", message("good", 100))
	short := stored(t, s, func() { deliver(t, box, "short", message("short", 100)) })
	for range 2 {
		deliver(t, box, string(make255('l')), message("long", 100))
	}
	s.Stop(t)
	dir := filepath.Dir(short)
	shortBad := strings.Replace(filepath.Base(short), "mc1=", "mc1=AAAA", 1)
	must(t, os.Rename(short, dir+"/"+shortBad))
	future := "mc7=whatever"
	must(t, os.WriteFile(dir+"/"+future, []byte("x"), 0o600))
	var longBad string
	for _, n := range names(t, dir) {
		if strings.HasSuffix(n, ".n") {
			longBad = strings.TrimSuffix(n, ".n")
			must(t, os.Remove(dir+"/"+n))
		}
	}
	s.Announce(`mc1|mc7|a conversion is not complete`)
	s.Serve(t)
	listed := names(t, box+"/new")
	if len(listed) != 4 {
		t.Fatalf("listed: %q, want 4 entries", listed)
	}
	readable(t, good, message("good", 100))
	for _, n := range []string{shortBad, future, longBad} {
		path := box + "/new/" + n
		if _, err := os.ReadFile(path); err == nil || errors.Is(err, os.ErrNotExist) {
			t.Errorf("open %s: %v, want an error that does not say it is gone", n, err)
		}
		stat(t, path)
		must(t, os.Remove(path))
	}
	if listed := names(t, box+"/new"); fmt.Sprint(listed) != "[good]" {
		t.Errorf("left: %q", listed)
	}
}

// TestDamagedRecord: a damaged key record concerns its user alone and says how to mend it; the one before is used if whole.
func TestDamagedRecord(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice", "bob")
	a := deliver(t, harness.Maildir(t, vmail, s.View, "alice"), "m", message("a", 100))
	b := deliver(t, harness.Maildir(t, vmail, s.View, "bob"), "m", message("b", 100))
	record := s.Store + "/.mailcryptfs/users/alice/record.toml"
	text, err := os.ReadFile(record)
	must(t, err)
	s.Stop(t)
	must(t, os.WriteFile(record, bytes.Replace(text, []byte("created = "), []byte("created= "), 1), 0o600))
	s.Announce(`alice`)
	s.Serve(t)
	s.Unlock(t, "bob")
	readable(t, b, message("b", 100))
	if r := s.Call(t, harness.Password("alice"), "unlock", "alice"); r.Code == 0 {
		t.Error("alice was unlocked by a damaged record")
	} else {
		t.Logf("said: %s", r.Err)
	}
	if _, err := os.ReadFile(a); !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EIO) {
		t.Errorf("a message of a user whose record is damaged: %v", err)
	}
	must(t, os.Rename(record, record+".damaged"))
	must(t, os.WriteFile(filepath.Dir(record)+"/record.prev.toml", text, 0o600))
	s.Stop(t)
	s.Serve(t)
	s.Unlock(t, "alice")
	readable(t, a, message("a", 100))
}
