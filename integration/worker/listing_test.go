package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// TestListing lists a folder again and again while the worker gives its messages other names in the store, there and back:
// each message is listed once, always. What a server does not find it takes for expunged.
func TestListing(t *testing.T) {
	const messages = 1500 // more than are read from the store at once
	s := harness.New(t, harness.Options{Profile: "dovecot-maildir"})
	cur := filepath.Join(s.Store, "alice", "cur")
	must(t, os.MkdirAll(cur, 0o700))
	for i := range messages {
		must(t, os.WriteFile(filepath.Join(cur, fmt.Sprintf("17%08d.M1P1.host.example.org,S=4:2,S", i)), []byte("text"), 0o600))
	}
	s.Serve(t)
	s.Enroll(t, "alice")
	view := filepath.Join(s.View, "alice", "cur")
	for _, verb := range []string{"encrypt", "decrypt", "encrypt"} {
		if verb == "decrypt" {
			s.Unlock(t, "alice")
		}
		var over atomic.Bool
		ended := make(chan error, 1)
		go func() {
			ended <- listings(view, messages, &over)
		}()
		// 75: what was listed at that moment is left for another pass.
		for code := 75; code == 75; {
			r := s.Call(t, nil, verb, "alice", "--wait")
			if code = r.Code; code != 0 && code != 75 {
				t.Errorf("%s: %d: %s%s", verb, r.Code, r.Out, r.Err)
			}
		}
		over.Store(true)
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", verb, err)
		}
	}
}

// listings lists dir until over, each time anew, and counts what it finds.
func listings(dir string, want int, over *atomic.Bool) error {
	for n := 0; n < 3 || !over.Load(); n++ {
		// Another modification time: the kernel is not to answer from its cache.
		extra := filepath.Join(dir, "extra")
		if err := errors.Join(os.WriteFile(extra, nil, 0o600), os.Remove(extra)); err != nil {
			return err
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		seen := map[string]int{}
		for _, e := range entries {
			seen[e.Name()]++
		}
		time.Sleep(20 * time.Millisecond) // no server lists one folder all the time
		if len(entries) != want || len(seen) != want {
			return fmt.Errorf("listing %d: %d entries, %d names; want %d", n, len(entries), len(seen), want)
		}
	}
	return nil
}
