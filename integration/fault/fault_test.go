package fault

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"github.com/mailcryptfs/mailcryptfs/integration/trap"
)

// hang is how long an operation may take when nothing fails.
const hang = 20 * time.Second

// calls are those of the daemon on stored files.
var calls = []string{"pread", "pwrite", "ftruncate", "fallocate", "fsync", "fdatasync", "fstat", "fstatfs", "fchown", "fchmod", "getdents",
	"fcntl", "fsetxattr", "fgetxattr", "flistxattr", "fremovexattr", "openat", "mkdirat", "mknodat", "linkat", "unlinkat", "readlinkat",
	"renameat", "renameat2", "fchownat", "fchmodat", "fchmodat2", "utimensat", "statx", "fstatat", "symlinkat"}

// bench is a site, and the scenes in it.
type bench struct {
	t      testing.TB // the test that runs
	s      *harness.Site
	inject *injector
	count  int
	ended  map[string]snapshot // the scenes, and what they have to look like for the next daemon
	users  map[string]bool     // that were made besides
}

func newBench(t *testing.T, o harness.Options, more ...string) *bench {
	t.Helper()
	trapped := trap.New(t, append(slices.Clone(calls), more...)...)
	o.Under = trapped.Under()
	o.Store.MiB = 1024
	b := &bench{s: harness.Start(t, o), ended: map[string]snapshot{}, users: map[string]bool{}}
	b.inject = &injector{store: b.s.Store}
	trapped.SetJudge(b.inject.judge)
	b.s.Announce(`.`) // failures are logged; a panic or a race is looked for at the end
	b.s.Enroll(t, "alice", "bob")
	b.s.Unlock(t, "alice")
	for _, user := range []string{"alice", "bob"} {
		must(t, os.Mkdir(b.s.View+"/"+user, 0o700))
	}
	return b
}

// within fails the test when f takes too long: something holds a lock.
func (b *bench) within(t *testing.T, what string, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(hang):
		_ = unix.Kill(b.s.PID(), unix.SIGQUIT)
		t.Fatalf("%s: no answer within %v", what, hang)
		return nil
	}
}

// set makes a scene for o and returns what the view shows of it.
func (b *bench) set(t *testing.T, user string, o op) (*scene, snapshot) {
	t.Helper()
	b.count++
	s := &scene{dir: fmt.Sprintf("%s/%s/scene-%d", b.s.View, user, b.count)}
	must(t, s.build())
	if o.prep != nil {
		if err := o.prep(s); err != nil {
			t.Fatalf("%s: cannot prepare: %v", o.name, err)
		}
	}
	before, err := look(s.dir)
	must(t, err)
	return s, before
}

// TestFaults is the whole of it for the operations of the view.
func TestFaults(t *testing.T) {
	b := newBench(t, harness.Options{})
	for _, o := range operations {
		t.Run(o.name, func(t *testing.T) { b.exhaust(t, o) })
	}
	b.afterwards(t)
}

// exhaust lets every call of an operation fail in every way.
func (b *bench) exhaust(t *testing.T, o op) {
	s, _ := b.set(t, "alice", o)
	if err := o.do(s); err != nil {
		t.Fatalf("without a fault: %v", err)
	}
	after, err := look(s.dir)
	must(t, err)
	s.close()
	total := 0
	for _, f := range faults {
		n := 1
		for ; n < 100; n++ {
			if !b.once(t, o, f, n, after) {
				break
			}
			total++
		}
		if n == 100 {
			t.Errorf("%s: there are always more calls", f.name)
		}
	}
	t.Logf("%d faults", total)
}

// once lets call n of an operation fail; false if there was none.
func (b *bench) once(t *testing.T, o op, f fault, n int, after snapshot) bool {
	t.Helper()
	s, before := b.set(t, "alice", o)
	defer s.close()
	b.inject.arm(f, n)
	err := b.within(t, o.name, func() error { return o.do(s) })
	hit, _ := b.inject.disarm()
	if len(hit) == 0 {
		if err != nil {
			t.Errorf("%s: without a fault: %v", f.name, err)
		}
		return false
	}
	what := fmt.Sprintf("%s at call %d (%s)", f.name, n, hit[0])
	now := b.seen(t, what, s)
	switch {
	case errors.Is(err, errWrong) || err != nil && f.unseen:
		t.Errorf("%s: %v", what, err)
	case err == nil:
		if d := now.difference(after); d != "" {
			t.Errorf("%s: done without an error, but %s", what, d)
		}
	default:
		b.failed(t, what, o, f, err, now, before, after)
	}
	b.retry(t, what, s, o, f, err, now, after)
	return true
}

// seen is a snapshot of the scene when nothing fails any more.
func (b *bench) seen(t *testing.T, what string, s *scene) (now snapshot) {
	t.Helper()
	err := b.within(t, what+": looking at it", func() (err error) {
		now, err = look(s.dir)
		return err
	})
	if err != nil {
		t.Errorf("%s: afterwards: %v", what, err)
	}
	return now
}

// failed checks what an operation that failed has left.
func (b *bench) failed(t *testing.T, what string, o op, f fault, err error, now, before, after snapshot) {
	t.Helper()
	if !errors.Is(err, f.errno) && !errors.Is(err, unix.EIO) {
		t.Errorf("%s: the error is %v", what, err)
	}
	if (f.lasting || o.twice) && now.difference(after) == "" {
		return // done, but it could not tell; doing it twice is doing it once
	}
	if !o.data {
		if d := now.difference(before); d != "" {
			t.Errorf("%s: failed (%v), but %s", what, err, d)
		}
		return
	}
	for name, e := range now {
		if !e.between(before[name], after[name]) {
			t.Errorf("%s: failed (%v), and %s is %s, was %s", what, err, name, e, before[name])
		}
	}
	if len(now) != len(before) {
		t.Errorf("%s: failed (%v), but %s", what, err, now.difference(before))
	}
}

// retry does the operation again, and something else in the same place.
func (b *bench) retry(t *testing.T, what string, s *scene, o op, f fault, err error, now, after snapshot) {
	t.Helper()
	if err != nil && (o.twice || now.difference(after) != "") {
		if err := b.within(t, what+": once more", func() error { return o.do(s) }); err != nil {
			t.Errorf("%s: tried again: %v", what, err)
			return
		}
	}
	if d := b.seen(t, what, s).difference(after); d != "" {
		t.Errorf("%s: tried again, and %s", what, d)
		return
	}
	err = b.within(t, what+": something else", func() error {
		other := s.path("other")
		if err := os.WriteFile(other, text(100), 0o600); err != nil {
			return err
		}
		return os.Remove(other)
	})
	if err != nil {
		t.Errorf("%s: something else in the same directory: %v", what, err)
	}
	b.ended[s.dir] = after
}

// afterwards has the next daemon look at all scenes, and verify at the store.
func (b *bench) afterwards(t *testing.T) {
	t.Helper()
	b.s.Kill(t)
	b.s.Serve(t)
	for dir, want := range b.ended {
		now, err := look(dir)
		if err != nil {
			t.Errorf("after a restart: %v", err)
		} else if d := now.difference(want); d != "" {
			t.Errorf("after a restart, in %s: %s", dir, d)
		}
	}
	b.verify(t)
	t.Logf("%d scenes", len(b.ended))
}

// verify has the verb of that name look at the store, and looks itself at the log.
func (b *bench) verify(t *testing.T) {
	t.Helper()
	if r := b.s.Call(t, nil, "verify"); r.Code != 0 {
		t.Errorf("verify: exit %d: %s%s", r.Code, r.Out, r.Err)
	}
	for _, bad := range []string{"panic", "DATA RACE"} {
		if b.s.LogHas(bad) {
			t.Errorf("the log has %q", bad)
		}
	}
}
