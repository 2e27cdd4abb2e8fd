package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// TestChanging has folders come, move and go while passes walk the mailbox: none may end early for that, be it on
// behalf of who asks or in the background, and nothing may be logged. The site's teardown looks at the log.
func TestChanging(t *testing.T) {
	s := harness.Start(t, harness.Options{Profile: "dovecot-maildir"})
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	box := filepath.Join(s.View, "alice")
	must(t, os.Mkdir(box, 0o700))
	changes := churn(t, box)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if r := s.Call(t, nil, "encrypt", "alice", "--dry-run"); r.Code != 0 {
			t.Fatalf("encrypt --dry-run: %d: %s%s", r.Code, r.Out, r.Err)
		}
		// 75: what is in use is left for another pass.
		if r := s.Call(t, nil, "encrypt", "alice", "--wait"); r.Code != 0 && r.Code != 75 {
			t.Fatalf("encrypt: %d: %s%s", r.Code, r.Out, r.Err)
		}
	}
	if n := changes(); n < 100 {
		t.Errorf("only %d folders came and went", n)
	}
	if r := s.Call(t, nil, "encrypt", "alice", "--wait"); r.Code != 0 {
		t.Errorf("encrypt at rest: %d: %s%s", r.Code, r.Out, r.Err)
	}
}

// churn makes, renames and removes folders in box, until the function that it returns is called, which tells how many
// there were.
func churn(t testing.TB, box string) (stop func() int) {
	done := make(chan struct{})
	var all sync.WaitGroup
	var made [4]int
	for w := range made {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := folder(filepath.Join(box, fmt.Sprintf(".%d", w)), filepath.Join(box, fmt.Sprintf(".%d-renamed", w))); err != nil {
					t.Error(err)
					return
				}
				made[w]++
			}
		})
	}
	end := sync.OnceFunc(func() { close(done); all.Wait() })
	t.Cleanup(end)
	return func() (n int) {
		end()
		for _, m := range made {
			n += m
		}
		return n
	}
}

// folder is the life of a folder: it is made, gets messages in directories of its own, is renamed, and removed.
func folder(path, renamed string) error {
	for i := range 10 {
		cur := filepath.Join(path, "sub", fmt.Sprint(i), "cur")
		if err := errors.Join(os.MkdirAll(cur, 0o700), os.WriteFile(filepath.Join(cur, "1.host:2,S"), []byte("text"), 0o600)); err != nil {
			return err
		}
	}
	if err := os.Rename(path, renamed); err != nil {
		return err
	}
	return os.RemoveAll(renamed)
}
