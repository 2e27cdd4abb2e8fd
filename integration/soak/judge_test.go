package soak

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// judgeMail unlocks everybody and reads every file: each acknowledged message is there once, and nothing else.
func (k *soak) judgeMail() {
	total := 0
	for _, a := range k.accounts {
		harness.Eventually(k, patience, "it is the turn of "+a.name, func() bool {
			done, err := k.unlock(a)
			must(k, err)
			return done
		})
		seen := map[string]int{}
		for _, dir := range []string{"new", "cur", ".Archive/new", ".Archive/cur"} {
			files, err := filepath.Glob(filepath.Join(k.s.View, a.name, dir, "*"))
			must(k, err)
			for _, path := range files {
				b, err := os.ReadFile(path)
				id, ok := whole(string(b))
				if err != nil || !ok {
					k.Errorf("%s: %v, not a whole message: %.200q", path, err, b)
					continue
				}
				seen[id]++
			}
		}
		for id, n := range seen {
			if _, known := a.mail[id]; n != 1 || !known {
				k.Errorf("%s: %s is there %d times, known %v, deleted before %v", a.name, id, n, known, a.removed[id])
			}
		}
		for id, acknowledged := range a.mail {
			if acknowledged && seen[id] == 0 {
				k.Errorf("%s: %s is lost", a.name, id)
			}
		}
		total += len(seen)
		must(k, k.lock(a))
	}
	k.Logf("%d messages are there", total)
}

// judgeEnd has the daemon say what all its goroutines do: nothing of all the work may go on.
func (k *soak) judgeEnd() {
	must(k, syscall.Kill(k.s.PID(), syscall.SIGABRT))
	harness.Eventually(k, patience, "the daemon has ended", func() bool { return !k.s.Running() })
	b, err := os.ReadFile(filepath.Join(filepath.Dir(k.s.Config), "log"))
	must(k, err)
	n := bytes.Count(b, []byte("\ngoroutine "))
	k.Logf("%d goroutines at the end", n)
	if n == 0 || n > 120 {
		k.Errorf("%d goroutines at the end: %.6000s", n, b[max(0, bytes.Index(b, []byte("\ngoroutine "))):])
	}
	k.s.Announce("detached a view that a dead daemon had left")
	k.s.Serve(k)
}
