package worker

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

func TestVerbs(t *testing.T) {
	s := site(t, "worker_users = 1\n")
	for _, u := range []string{"alice", "bob"} {
		maildir(t, filepath.Join(s.Store, u), 40)
	}
	before := snapshot(t, filepath.Join(s.Store, "bob"))
	// A kill in the middle of a conversion can leave the long name of an entry that is not there any more.
	orphan := filepath.Join(s.Store, "alice", "cur", "mc1+"+strings.Repeat("A", 43)+".n")
	must(t, os.WriteFile(orphan, []byte("x"), 0o600))
	s.Serve(t)
	s.Enroll(t, "alice")
	count := func(verb string, want int) {
		t.Helper()
		r := s.Call(t, nil, verb, "bob", "--dry-run")
		var n, all, size int
		if _, err := fmt.Sscanf(r.Out, "bob: %d of %d entries to "+verb+", %d bytes", &n, &all, &size); err != nil || r.Code != 0 || n != want {
			t.Errorf("%s --dry-run: %d: %q %q, %v; want %d", verb, r.Code, r.Out, r.Err, err, want)
		}
	}
	// 41 messages, a file, 2 folders with 3 directories, their folder and the user's directory.
	const entries = 41 + 1 + 6 + 1 + 1
	count("encrypt", entries)
	count("decrypt", 0)
	// decrypt of a locked user changes nothing, and says what to do.
	if r := s.Call(t, nil, "decrypt", "alice"); r.Code != 67 || !strings.Contains(r.Err, "mailcryptfs unlock alice") {
		t.Errorf("decrypt of a locked user: %d: %s", r.Code, r.Err)
	}
	// Neither alice, who is locked, nor bob, who has no key, need one for this.
	r := s.Call(t, nil, "encrypt", "--all", "--wait")
	if r.Code != 0 || strings.Count(r.Out, "nothing is left") != 2 {
		t.Fatalf("encrypt --all: %d: %s%s", r.Code, r.Out, r.Err)
	}
	noClear(t, s)
	if _, err := os.Stat(orphan); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a name without an entry: %v", err)
	}
	count("encrypt", 0)
	count("decrypt", entries)
	same(t, "bob encrypted", snapshot(t, filepath.Join(s.View, "bob")), before)
	if r := s.Call(t, nil, "decrypt", "bob", "--wait"); r.Code != 0 {
		t.Fatalf("decrypt: %d: %s%s", r.Code, r.Out, r.Err)
	}
	same(t, "bob decrypted", snapshot(t, filepath.Join(s.Store, "bob")), before)
	// alice's mail was sealed; with her key it is hers.
	s.Unlock(t, "alice")
	converted(t, s, "alice")
	if content, err := os.ReadFile(anyMessage(t, filepath.Join(s.View, "alice/cur"))); err != nil || !bytes.Contains(content, []byte(textMarker)) {
		t.Errorf("%v, %d bytes", err, len(content))
	}
	s.Lock(t, "alice")
	// What was sealed while she was locked can be read until the end of the epoch.
	harness.Eventually(t, time.Minute, "EACCES for mail of a locked user", func() bool {
		_, err := os.ReadFile(anyMessage(t, filepath.Join(s.View, "alice/cur")))
		return errors.Is(err, unix.EACCES)
	})
}

func anyMessage(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		t.Fatalf("%s: %d entries, %v", dir, len(entries), err)
	}
	return filepath.Join(dir, entries[0].Name())
}
