package worker

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// TestLinksAcrossUsers takes over a message that a mail server kept once for two people: each gets a copy of their own,
// in their own time, and both names of one of them stay one file.
func TestLinksAcrossUsers(t *testing.T) {
	s := site(t, "")
	text := []byte("Subject: for both\n\n" + textMarker + "\n")
	names := []string{"alice/cur/1.both", "alice/.Copy/cur/1.both", "bob/cur/1.both"}
	for i, name := range names {
		path := filepath.Join(s.Store, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		if i == 0 {
			must(t, os.WriteFile(path, text, 0o600))
		} else {
			must(t, os.Link(filepath.Join(s.Store, names[0]), path))
		}
	}
	s.Serve(t)
	reads := func(name string) {
		t.Helper()
		if got, err := os.ReadFile(filepath.Join(s.View, name)); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	links := func(name string, want uint64) (ino uint64) {
		t.Helper()
		var st unix.Stat_t
		must(t, unix.Stat(filepath.Join(s.View, name), &st))
		if uint64(st.Nlink) != want {
			t.Errorf("%s has %d links, want %d", name, st.Nlink, want)
		}
		return st.Ino
	}
	for _, name := range names { // the kernel knows them all as one file
		reads(name)
		links(name, 3)
	}
	s.Enroll(t, "alice", "bob")
	s.Unlock(t, "alice")
	converted(t, s, "alice")
	if links(names[0], 2) != links(names[1], 2) {
		t.Error("the two names of alice are two files now")
	}
	links(names[2], 1)
	for _, name := range names {
		reads(name)
	}
	s.Lock(t, "alice")
	harness.Eventually(t, time.Minute, "EACCES for alice's mail only", func() bool {
		_, err := os.ReadFile(filepath.Join(s.View, names[0]))
		return errors.Is(err, unix.EACCES)
	})
	reads(names[2])
	s.Unlock(t, "bob")
	converted(t, s, "bob")
	reads(names[2])
	noClear(t, s)
	if r := s.Call(t, nil, "verify"); r.Code != 0 {
		t.Errorf("verify: %d\n%s%s", r.Code, r.Out, r.Err)
	}
}
