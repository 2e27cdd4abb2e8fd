package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

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
	var made atomic.Int64
	stop := churn(t, box, &made)
	for passes := 0; passes < 10 || made.Load() < 50; passes++ {
		if r := s.Call(t, nil, "encrypt", "alice", "--dry-run"); r.Code != 0 {
			t.Fatalf("encrypt --dry-run: %d: %s%s", r.Code, r.Out, r.Err)
		}
		// 75: what is in use is left for another pass.
		if r := s.Call(t, nil, "encrypt", "alice", "--wait"); r.Code != 0 && r.Code != 75 {
			t.Fatalf("encrypt: %d: %s%s", r.Code, r.Out, r.Err)
		}
	}
	stop()
	if r := s.Call(t, nil, "encrypt", "alice", "--wait"); r.Code != 0 {
		t.Errorf("encrypt at rest: %d: %s%s", r.Code, r.Out, r.Err)
	}
}

// churn makes, renames and removes folders in box, and counts them, until the function that it returns is called.
func churn(t testing.TB, box string, made *atomic.Int64) (stop func()) {
	done := make(chan struct{})
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			path, renamed := filepath.Join(box, fmt.Sprintf(".%d", w)), filepath.Join(box, fmt.Sprintf(".%d-renamed", w))
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := folder(path, renamed); err != nil {
					t.Error(err)
					made.Add(1 << 32) // nobody waits for more
					return
				}
				made.Add(1)
			}
		})
	}
	stop = sync.OnceFunc(func() { close(done); all.Wait() })
	t.Cleanup(stop)
	return stop
}

// folder is the life of a folder: it is made, gets messages in directories of its own, is renamed, and removed.
func folder(path, renamed string) error {
	for i := range 5 {
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
