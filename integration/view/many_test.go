package view

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// usage is what a process takes: resident memory in KiB, and descriptors.
func usage(t testing.TB, pid int) (rss, fds int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	for _, line := range strings.Split(string(b), "\n") {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			rss, err = strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(value, "kB")))
			must(t, err)
		}
	}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	must(t, err)
	return rss, len(entries)
}

// parallel calls do for 0 to n-1, some at a time.
func parallel(n int, do func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range 4 {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// TestManyUsers: 1,000 enrolled users, 100 of them unlocked, mail for all.
func TestManyUsers(t *testing.T) {
	const users, unlocked = 1000, 100
	s := harness.Start(t, harness.Options{User: "%d/%n", Store: harness.Image{MiB: 1024}})
	name := func(i int) string { return fmt.Sprintf("user%d@example.org", i) }
	box := func(i int) string { return fmt.Sprintf("%s/example.org/user%d", s.View, i) }
	parallel(users, func(i int) { s.Enroll(t, name(i)) })
	parallel(unlocked, func(i int) { s.Unlock(t, name(i*users/unlocked)) })
	must(t, os.Mkdir(s.View+"/example.org", 0o755))
	parallel(users, func(i int) {
		maildir(t, s.View+"/example.org", fmt.Sprint("user", i))
		deliver(t, box(i), "m", message(name(i), 3000))
	})
	v := s.Status(t)
	if fmt.Sprint(v["users"], v["unlocked"]) != fmt.Sprint(users, unlocked) {
		t.Errorf("status: %v users, %v unlocked", v["users"], v["unlocked"])
	}
	s.Stop(t) // ends every epoch
	s.Serve(t)
	parallel(users, func(i int) {
		b, err := os.ReadFile(box(i) + "/new/m")
		switch open := i%(users/unlocked) == 0; {
		case open && (err != nil || string(b) != string(message(name(i), 3000))):
			t.Errorf("unlocked user %d: %v", i, err)
		case !open && !errors.Is(err, os.ErrPermission):
			t.Errorf("locked user %d: %v", i, err)
		}
	})
	rss, fds := usage(t, s.PID())
	t.Logf("%d KiB resident, %d descriptors", rss, fds)
	if rss > 400<<10 {
		t.Errorf("%d KiB resident", rss)
	}
}

// TestLongLoop: creating, renaming, reading and removing many files leaves nothing behind in the daemon.
func TestLongLoop(t *testing.T) {
	const files, warm = 20000, 6000
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice", "bob")
	s.Unlock(t, "alice")
	boxes := []string{maildir(t, s.View, "alice"), maildir(t, s.View, "bob")}
	content := message("loop", 6000)
	one := func(i int) {
		box := boxes[i%2]
		tmp, path := fmt.Sprintf("%s/tmp/%d", box, i), fmt.Sprintf("%s/cur/%d:2,S", box, i)
		must(t, os.WriteFile(tmp, content, 0o600))
		must(t, os.Rename(tmp, path))
		readable(t, path, content)
		must(t, os.Remove(path))
	}
	for i := range warm {
		one(i)
	}
	rss, fds := usage(t, s.PID())
	for i := warm; i < files; i++ {
		one(i)
	}
	rssAfter, fdsAfter := usage(t, s.PID())
	t.Logf("%d KiB and %d descriptors after %d files, %d KiB and %d after %d", rss, fds, warm, rssAfter, fdsAfter, files)
	if rssAfter > rss+16<<10 {
		t.Errorf("memory grew from %d to %d KiB", rss, rssAfter)
	}
	if fdsAfter > fds+20 {
		t.Errorf("descriptors grew from %d to %d", fds, fdsAfter)
	}
	if left := storeFiles(t, s); len(left) != 0 {
		t.Errorf("%d files are left in the store", len(left))
	}
}
