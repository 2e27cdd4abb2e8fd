package view

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"golang.org/x/sys/unix"
)

// TestForeignFile: a file of one user that somebody moved into another's tree of the store opens for nobody there (FORMAT.md
// C12), and a link in place of a directory leads nowhere.
func TestForeignFile(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice", "bob")
	s.Unlock(t, "alice", "bob")
	a, b := harness.Maildir(t, vmail, s.View, "alice"), harness.Maildir(t, vmail, s.View, "bob")
	own := deliver(t, b, "own", message("bob", 5000))
	bobDir := filepath.Dir(stored(t, s, func() { deliver(t, b, "other", message("bob", 100)) }))
	from := stored(t, s, func() { deliver(t, a, "secret", message("alice", 5000)) })
	sub := harness.Maildir(t, vmail, b, ".Sub")
	inSub := stored(t, s, func() { deliver(t, sub, "x", message("sub", 100)) })
	s.Stop(t)
	content, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(bobDir+"/"+filepath.Base(from), content, 0o600))
	subNew := filepath.Dir(inSub)
	must(t, os.RemoveAll(subNew))
	must(t, os.Symlink("/etc", subNew))
	s.Announce(filepath.Base(from))
	s.Announce(filepath.Base(subNew))
	s.Announce(`cannot convert an entry|a conversion is not complete`) // by the worker, a second after the start
	s.Serve(t)
	got, err := os.ReadFile(b + "/new/secret")
	if err == nil || errors.Is(err, os.ErrNotExist) || len(got) != 0 {
		t.Errorf("a file of alice in bob's tree: %v, %d bytes", err, len(got))
	}
	readable(t, own, message("bob", 5000))
	readable(t, a+"/new/secret", message("alice", 5000))
	if _, err := os.ReadFile(sub + "/new/passwd"); err == nil {
		t.Error("a link in the store leads out of it")
	}
	if err := os.WriteFile(sub+"/new/mailcryptfs-test", nil, 0o600); err == nil {
		_ = os.Remove("/etc/mailcryptfs-test")
		t.Error("a link in the store leads out of it, for writing")
	}
}

// TestIoctl: no request that a filesystem of the store would obey gets through the view.
func TestIoctl(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	box := harness.Maildir(t, vmail, s.View, "alice")
	path := deliver(t, box, "m", message("x", 100))
	const extShutdown, setFlags, immutable = 0x8004587d, 0x40086602, 0x10
	for _, target := range []string{path, box} {
		fd, err := unix.Open(target, unix.O_RDONLY, 0)
		must(t, err)
		for _, c := range []struct{ request, value int }{{extShutdown, 2}, {setFlags, immutable}} {
			if err := unix.IoctlSetPointerInt(fd, uint(c.request), c.value); err == nil {
				t.Errorf("ioctl %#x of %s was obeyed", c.request, target)
			}
		}
		must(t, unix.Close(fd))
	}
	deliver(t, box, "after", message("y", 100))
	must(t, os.Remove(path))
}

// TestHandleOutlivesEpoch: who began to write within an epoch can finish after its end, as a slow delivery does.
func TestHandleOutlivesEpoch(t *testing.T) {
	s := harness.Start(t, harness.Options{Epoch: "1s"})
	s.Enroll(t, "alice")
	box := harness.Maildir(t, vmail, s.View, "alice")
	want := message("slow", 30000)
	f, err := os.OpenFile(box+"/tmp/slow", os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	must(t, err)
	_, err = f.Write(want[:7000])
	must(t, err)
	empty, err := os.OpenFile(box+"/tmp/empty", os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	must(t, err)
	quick := deliver(t, box, "quick", message("quick", 100))
	closes(t, 20*time.Second, quick, message("quick", 100))
	_, err = f.Write(want[7000:])
	must(t, err)
	b := make([]byte, 9000)
	_, err = f.ReadAt(b, 100)
	must(t, err)
	if !bytes.Equal(b, want[100:9100]) {
		t.Error("the handle reads something else than it wrote")
	}
	_, err = empty.Write(want)
	must(t, err)
	must(t, errors.Join(f.Sync(), f.Close(), empty.Sync(), empty.Close()))
	refused(t, box+"/tmp/slow")
	must(t, os.Rename(box+"/tmp/slow", box+"/new/slow"))
	noClear(t, s, "body-slow")
	s.Unlock(t, "alice")
	readable(t, box+"/new/slow", want)
	readable(t, box+"/tmp/empty", want)
}

// TestEnrollLater: what came before a user was enrolled stays readable, what comes after is sealed.
func TestEnrollLater(t *testing.T) {
	for _, mode := range []string{"site", "plaintext"} {
		t.Run(mode, func(t *testing.T) {
			s := harness.Start(t, harness.Options{Unenrolled: mode})
			box := harness.Maildir(t, vmail, s.View, "alice")
			before := deliver(t, box, "before", message("before", 9000))
			s.Enroll(t, "alice")
			after := deliver(t, box, "after", message("after", 9000))
			s.Stop(t)
			s.Serve(t)
			readable(t, before, message("before", 9000))
			refused(t, after)
			s.Unlock(t, "alice")
			readable(t, before, message("before", 9000))
			readable(t, after, message("after", 9000))
		})
	}
}

// TestFewDescriptors: a daemon that runs out of descriptors tells the caller so, goes on, and recovers.
func TestFewDescriptors(t *testing.T) {
	s := harness.Start(t, harness.Options{Files: 150})
	s.Announce(`too many open files`)
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	box := harness.Maildir(t, vmail, s.View, "alice")
	var paths []string
	for i := range 300 {
		paths = append(paths, deliver(t, box, fmt.Sprint("m", i), message("x", 1000)))
	}
	var open []*os.File
	refusals := 0
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			refusals++
			if !errors.Is(err, unix.EMFILE) && !errors.Is(err, unix.ENFILE) && !errors.Is(err, unix.EIO) {
				t.Errorf("open: %v", err)
			}
			continue
		}
		b := make([]byte, 100)
		if _, err := f.ReadAt(b, 0); err != nil || !bytes.HasPrefix(message("x", 1000), b) {
			t.Errorf("read: %v", err)
		}
		open = append(open, f)
	}
	t.Logf("%d of %d could not be opened", refusals, len(paths))
	for _, f := range open {
		must(t, f.Close())
	}
	for _, path := range paths { // closing is told to the daemon a moment later
		harness.Eventually(t, time.Minute, "room for a handle", func() bool {
			b, err := os.ReadFile(path)
			return err == nil && bytes.Equal(b, message("x", 1000))
		})
	}
	deliver(t, box, "after", message("y", 1000))
}

// TestLockStorm locks and unlocks while mail is delivered, read, mapped and moved: every answer is the right content or
// EACCES, nothing hangs, nothing is lost.
func TestLockStorm(t *testing.T) {
	s := harness.Start(t, harness.Options{Epoch: "1s"})
	s.Enroll(t, "alice")
	box := harness.Maildir(t, vmail, s.View, "alice")
	var mu sync.Mutex
	var paths []string
	pick := func(i int) string {
		mu.Lock()
		defer mu.Unlock()
		if len(paths) == 0 {
			return ""
		}
		return paths[i*7919%len(paths)]
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	worker := func(do func(i int) error) {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := do(i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	content := func(path string) []byte { return message(filepath.Base(path), 3000+len(path)*100) }
	for w := range 2 {
		worker(func(i int) error {
			name := fmt.Sprintf("w%d-%d", w, i)
			path, err := put(box, name, content(box+"/new/"+name))
			mu.Lock()
			defer mu.Unlock()
			paths = append(paths, path)
			return err
		})
	}
	for range 2 {
		worker(func(i int) error {
			path := pick(i)
			if path == "" {
				return nil
			}
			b, err := os.ReadFile(path)
			if errors.Is(err, unix.EACCES) || err == nil && bytes.Equal(b, content(path)) {
				return nil
			}
			return fmt.Errorf("%s: %w, %d bytes", path, err, len(b))
		})
	}
	worker(func(i int) error {
		path := pick(i)
		if path == "" {
			return nil
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || st.Size != int64(len(content(path))) {
			return fmt.Errorf("stat %s: %w, size %d", path, err, st.Size)
		}
		_, err := os.ReadDir(box + "/new")
		return err
	})
	for range 25 {
		s.Unlock(t, "alice")
		s.Lock(t, "alice")
	}
	close(stop)
	wg.Wait()
	s.Unlock(t, "alice")
	for _, path := range paths {
		readable(t, path, content(path))
	}
	if n := len(names(t, box+"/new")); n != len(paths) {
		t.Errorf("%d messages are listed, %d were delivered", n, len(paths))
	}
	t.Logf("%d messages", len(paths))
}

// TestOddUsers: names of users with everything that names have in real life.
func TestOddUsers(t *testing.T) {
	users := []string{"a b", "ümläut@exämple.org", "50%@x.org", strings.Repeat("u", 200), "UPPER", "dot.ted", "new", "cur", "tmp", "=eq+plus"}
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, users...)
	for _, u := range users {
		box := harness.Maildir(t, vmail, s.View, u)
		path := deliver(t, box, "m", message("x", 5000))
		must(t, os.WriteFile(box+"/dovecot-uidlist", []byte("3"), 0o600))
		s.Unlock(t, u)
		readable(t, path, message("x", 5000))
		s.Lock(t, u)
	}
	s.Stop(t)
	s.Serve(t)
	for _, u := range users {
		refused(t, s.View+"/"+u+"/new/m")
		readable(t, s.View+"/"+u+"/dovecot-uidlist", []byte("3"))
	}
}
