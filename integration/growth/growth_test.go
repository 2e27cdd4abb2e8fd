// Package growth checks what the daemon needs for many users and many files: memory, descriptors, and that nothing is left
// behind. It runs without the race detector, which needs several times the memory for itself.
package growth

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

func TestMain(m *testing.M) {
	harness.WithoutRace()
	os.Exit(harness.Main(m, nil))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// deliver puts a message into a folder by way of tmp/.
func deliver(box, to, text string) error {
	tmp := filepath.Join(box, "tmp", filepath.Base(to))
	return errors.Join(os.WriteFile(tmp, []byte(text), 0o600), os.Rename(tmp, filepath.Join(box, to)))
}

// usage is what a process takes: resident memory in KiB, and descriptors; the least of some samples, because garbage comes
// and goes.
func usage(t testing.TB, pid int) (rss, fds int) {
	t.Helper()
	rss, fds = harness.ProcStatus(t, pid, "VmRSS"), harness.Descriptors(t, pid)
	for range 2 {
		time.Sleep(time.Second)
		rss, fds = min(rss, harness.ProcStatus(t, pid, "VmRSS")), min(fds, harness.Descriptors(t, pid))
	}
	return rss, fds
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
	parallel(users, func(i int) {
		if err := deliver(harness.Maildir(t, 0, box(i)), "new/m", client.Message(name(i), 50)); err != nil {
			t.Error(err)
		}
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
		case open && (err != nil || string(b) != client.Message(name(i), 50)):
			t.Errorf("unlocked user %d: %v", i, err)
		case !open && !errors.Is(err, os.ErrPermission):
			t.Errorf("locked user %d: %v", i, err)
		}
	})
	rss, fds := usage(t, s.PID())
	t.Logf("%d KiB resident, %d descriptors", rss, fds)
	if rss > 200<<10 {
		t.Errorf("%d KiB resident", rss)
	}
}

// TestLongLoop: creating, renaming, reading and removing many files leaves nothing behind in the daemon.
func TestLongLoop(t *testing.T) {
	const files, warm = 20000, 6000
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice", "bob")
	s.Unlock(t, "alice")
	boxes := []string{harness.Maildir(t, 0, s.View+"/alice"), harness.Maildir(t, 0, s.View+"/bob")}
	text := client.Message("loop", 90)
	one := func(i int) {
		box, name := boxes[i%2], fmt.Sprintf("cur/%d:2,S", i)
		must(t, deliver(box, name, text))
		b, err := os.ReadFile(filepath.Join(box, name))
		if err != nil || string(b) != text {
			t.Fatalf("message %d: %d bytes, %v", i, len(b), err)
		}
		must(t, os.Remove(filepath.Join(box, name)))
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
	if n := len(s.StoreFiles(t)); n != 0 {
		t.Errorf("%d files are left in the store", n)
	}
}
