package view

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"golang.org/x/sys/unix"
)

// harnessTime is the date of old messages in these tests.
var harnessTime = time.Unix(981173106, 0)

// childDeliver BOX ID delivers messages until something fails, and says the number of each one that is acknowledged.
func childDeliver(c *harness.Child) error {
	for i := 0; ; i++ {
		name := fmt.Sprintf("%s-%d", c.Args[1], i)
		if _, err := put(c.Args[0], name, message(name, 100+i*777%20000)); err != nil {
			return c.Say("ended")
		}
		if err := c.Say("%d", i); err != nil {
			return err
		}
	}
}

// TestKill: the daemon is killed while the view is busy and started over its stale mount. What was acknowledged is there,
// who was unlocked is unlocked.
func TestKill(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Announce(`path=\S+/tmp/|a conversion is not complete`) // a message that nobody was told of may be there in part
	s.Enroll(t, "alice", "bob")
	s.Unlock(t, "alice")
	boxes := map[string]string{"alice": harness.Maildir(t, vmail, s.View, "alice"), "bob": harness.Maildir(t, vmail, s.View, "bob")}
	acknowledged := map[string][]byte{}
	var bobs []string
	for round := range 3 {
		procs := map[string]*harness.Proc{}
		for user, box := range boxes {
			id := fmt.Sprintf("%s-%d", user, round)
			procs[id] = harness.Spawn(t, "deliver", box, id)
			procs[id].Expect(t, "0")
		}
		idle := harness.Spawn(t, "hold", deliver(t, boxes["alice"], fmt.Sprint("held-", round), message("held", 5000)))
		idle.Line(t)
		for id, p := range procs {
			for p.Line(t) != strconv.Itoa(40+round*7) {
				continue
			}
			_ = id
		}
		s.Kill(t)
		for id, p := range procs {
			last := 40 + round*7
			for line := p.Line(t); line != "ended"; line = p.Line(t) {
				n, err := strconv.Atoi(line)
				must(t, err)
				last = n
			}
			p.Wait(t)
			user, _, _ := strings.Cut(id, "-")
			for i := range last + 1 {
				name := fmt.Sprintf("%s-%d", id, i)
				path := boxes[user] + "/new/" + name
				acknowledged[path] = message(name, 100+i*777%20000)
				if user == "bob" {
					bobs = append(bobs, path)
				}
			}
		}
		if _, err := os.ReadDir(s.View); !errors.Is(err, unix.ENOTCONN) {
			t.Errorf("the dead mount answers %v, want ENOTCONN", err)
		}
		s.Serve(t)
		if !isUnlocked(t, s, "alice") || isUnlocked(t, s, "bob") {
			t.Fatal("after the restart alice is locked, or bob is not")
		}
		for path, content := range acknowledged {
			if strings.HasPrefix(path, boxes["alice"]) {
				readable(t, path, content)
			}
		}
		for _, path := range bobs {
			refused(t, path)
		}
		// Whatever was not acknowledged is whole or cannot be mistaken for a whole message in new/.
		for _, n := range names(t, boxes["alice"]+"/new") {
			b, err := os.ReadFile(boxes["alice"] + "/new/" + n)
			must(t, err)
			if !strings.HasPrefix(n, "held") && !bytes.HasPrefix(b, []byte("From: sender-"+n+"@")) {
				t.Errorf("%s holds something else: %q", n, b[:min(len(b), 40)])
			}
		}
	}
	s.Unlock(t, "bob")
	for path, content := range acknowledged {
		readable(t, path, content)
	}
	if b, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Count(string(b), " "+s.View+" ") != 1 {
		t.Errorf("the view is mounted %d times, %v", strings.Count(string(b), " "+s.View+" "), err)
	}
}

// TestTerminate: SIGTERM ends the daemon cleanly, also while files of the view are open and somebody's directory is in it.
func TestTerminate(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	box := harness.Maildir(t, vmail, s.View, "alice")
	path := deliver(t, box, "m", message("x", 50000))
	hold := harness.Spawn(t, "hold", path)
	hold.Line(t)
	s.Stop(t)
	hold.Kill()
	s.Serve(t)
	readable(t, path, message("x", 50000))
}

// TestStoreGone: when the store's filesystem fails, callers get errors, fsync does not lie, and nothing panics.
func TestStoreGone(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice", "bob")
	s.Unlock(t, "alice")
	box := harness.Maildir(t, vmail, s.View, "alice")
	deliver(t, box, "m", message("x", 50000))
	f, err := os.OpenFile(box+"/tmp/open", os.O_CREATE|os.O_RDWR, 0o600)
	must(t, err)
	defer func() { _ = f.Close() }()
	_, err = f.Write(message("y", 5000))
	must(t, err)
	s.Announce(`.`) // every kind of complaint is welcome; a panic is looked for below
	shutdown(t, s.StoreFS)
	_, werr := f.Write(message("y", 50000))
	if err := f.Sync(); err == nil {
		t.Errorf("fsync says yes on a store that is gone (write before: %v)", werr)
	}
	if _, err := put(box, "lost", message("z", 5000)); err == nil {
		t.Error("a delivery into a store that is gone is acknowledged")
	}
	if r := s.Call(t, harness.Password("bob"), "unlock", "bob"); r.Code == 0 {
		t.Log("bob could be unlocked from what the kernel had cached")
	}
	s.Status(t)
	if s.LogHas("panic") {
		t.Error("the log tells of a panic")
	}
	s.Kill(t)
}

// shutdown makes every further change of an ext4 filesystem fail, as a dead disk does (EXT4_IOC_SHUTDOWN, no log flush).
func shutdown(t *testing.T, dir string) {
	t.Helper()
	const extShutdown, noLogFlush = 0x8004587d, 2
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer func() { _ = unix.Close(fd) }()
	must(t, unix.IoctlSetPointerInt(fd, extShutdown, noLogFlush))
}
