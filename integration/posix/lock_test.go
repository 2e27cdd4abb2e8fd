package posix

import (
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

// childFcntl PATH obeys lines: "set TYPE START LEN" and "wait TYPE START LEN" (TYPE r, w or u) answer "ok" or the error,
// "get TYPE START LEN" answers who is in the way, "reopen" opens and closes the file once more (which drops all locks of
// the process), "close" closes it.
func childFcntl(c *harness.Child) error {
	f, err := os.OpenFile(c.Args[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := c.Say("ready"); err != nil {
		return err
	}
	return c.Obey(func(line string) (string, error) { return operateLock(f, c.Args[0], strings.Fields(line)), nil })
}

func operateLock(f *os.File, path string, words []string) string {
	var err error
	switch words[0] {
	case "close":
		err = f.Close()
	case "reopen":
		g, e := os.Open(path)
		if e == nil {
			e = g.Close()
		}
		err = e
	default:
		lk := unix.Flock_t{Type: map[string]int16{"r": unix.F_RDLCK, "w": unix.F_WRLCK, "u": unix.F_UNLCK}[words[1]]}
		lk.Start, _ = strconv.ParseInt(words[2], 10, 64)
		lk.Len, _ = strconv.ParseInt(words[3], 10, 64)
		cmd := map[string]int{"set": unix.F_SETLK, "wait": unix.F_SETLKW, "get": unix.F_GETLK}[words[0]]
		err = unix.FcntlFlock(f.Fd(), cmd, &lk)
		if err == nil && words[0] == "get" {
			return fmt.Sprintf("%d %d %d %d", lk.Type, lk.Start, lk.Len, lk.Pid)
		}
	}
	if err != nil {
		return err.Error()
	}
	return "ok"
}

func ask(t *testing.T, p *harness.Proc, line, want string) {
	t.Helper()
	p.Tell(t, line)
	if got := p.Line(t); got != want {
		t.Fatalf("%s: %q, want %q", line, got, want)
	}
}

func lockers(t *testing.T, path string, n int) []*harness.Proc {
	t.Helper()
	write(t, path, noise(1, 9000))
	var ps []*harness.Proc
	for range n {
		p := harness.Spawn(t, "fcntl", path)
		p.Expect(t, "ready")
		ps = append(ps, p)
	}
	return ps
}

func testFcntlLocks(t *testing.T, p *place) {
	again := unix.EAGAIN.Error()
	ps := lockers(t, p.path("f"), 3)
	a, b, c := ps[0], ps[1], ps[2]
	ask(t, a, "set w 0 0", "ok") // the whole file
	ask(t, b, "set w 0 0", again)
	ask(t, b, "set r 100 1", again)
	ask(t, b, "get w 0 0", fmt.Sprintf("%d 0 0 %d", unix.F_WRLCK, a.PID()))
	ask(t, a, "set u 100 50", "ok") // leaves 0-99 and 150-
	ask(t, b, "set w 100 50", "ok")
	ask(t, b, "set w 100 51", again)
	ask(t, a, "set r 100 1", again)
	ask(t, a, "set u 0 0", "ok")
	ask(t, a, "set r 0 10", "ok")
	ask(t, c, "set r 0 10", "ok") // shared
	ask(t, b, "set w 5 1", again)
	ask(t, c, "set w 0 10", again) // no upgrade over another reader
	ask(t, a, "reopen", "ok")      // closing any descriptor drops the locks of the process
	ask(t, c, "set w 0 10", "ok")
	c.Kill() // so does its end, however it comes
	ask(t, a, "set w 0 10", "ok")
	ask(t, a, "close", "ok")
	ask(t, b, "set w 0 0", "ok")
	b.Wait(t)
	a.Wait(t)
}

// testFcntlSameProcess: record locks belong to the process: its own handles never exclude each other.
func testFcntlSameProcess(t *testing.T, p *place) {
	f, g := open(t, p.path("f"), os.O_CREATE|os.O_RDWR), open(t, p.path("f"), os.O_RDWR)
	lk := unix.Flock_t{Type: unix.F_WRLCK}
	must(t, unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lk))
	must(t, unix.FcntlFlock(g.Fd(), unix.F_SETLK, &lk))
	// Those of open file descriptions do.
	must(t, unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_UNLCK}))
	must(t, unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}))
	if err := unix.FcntlFlock(g.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK}); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("a second handle: %v, want EAGAIN", err)
	}
}

// testFcntlWaits: F_SETLKW sleeps until the holder lets go, and another one that is killed while waiting holds nothing.
func testFcntlWaits(t *testing.T, p *place) {
	ps := lockers(t, p.path("f"), 3)
	a, b, c := ps[0], ps[1], ps[2]
	ask(t, a, "set w 0 0", "ok")
	b.Tell(t, "wait w 0 0")
	c.Tell(t, "wait r 0 0")
	harness.Eventually(t, time.Minute, "b and c wait", func() bool { return waiting(b) && waiting(c) })
	c.Kill()
	// Had b got the lock it would never wait again; one reading of /proc/locks can miss lines while others change it.
	harness.Eventually(t, time.Minute, "b still waits for a lock that a holds", func() bool { return waiting(b) })
	ask(t, a, "set u 0 0", "ok")
	b.Expect(t, "ok")
	ask(t, a, "set r 0 1", unix.EAGAIN.Error())
	b.Kill()
	ask(t, a, "set w 0 0", "ok")
}

// waiting says whether a process sleeps in the kernel for a lock, as /proc/locks tells: a line with "->" and its id.
func waiting(p *harness.Proc) bool {
	b, err := os.ReadFile("/proc/locks")
	if err != nil {
		return false
	}
	for _, line := range strings.Split(string(b), "\n") {
		if strings.Contains(line, "->") && strings.Contains(line, fmt.Sprintf(" %d ", p.PID())) {
			return true
		}
	}
	return false
}

// childCounter PATH COUNT increments a number in a file under a lock.
func childCounter(c *harness.Child) error {
	f, err := os.OpenFile(c.Args[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	for range c.Int(1) {
		lk := unix.Flock_t{Type: unix.F_WRLCK}
		if err := unix.FcntlFlock(f.Fd(), unix.F_SETLKW, &lk); err != nil {
			return err
		}
		buf := make([]byte, 8)
		if _, err := f.ReadAt(buf, 4006); err != nil { // across the edge of two blocks
			return err
		}
		n, err := strconv.Atoi(string(buf))
		if err != nil {
			return err
		}
		if _, err := f.WriteAt(fmt.Appendf(nil, "%08d", n+1), 4006); err != nil {
			return err
		}
		lk.Type = unix.F_UNLCK
		if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lk); err != nil {
			return err
		}
	}
	return f.Close()
}

// testFcntlCounter: what one process writes under a lock, the next that gets the lock reads.
func testFcntlCounter(t *testing.T, p *place) {
	const procs, each = 4, 200
	path := p.path("counter")
	write(t, path, append(make([]byte, 4006), "00000000"...))
	var ps []*harness.Proc
	for range procs {
		ps = append(ps, harness.Spawn(t, "counter", path, strconv.Itoa(each)))
	}
	for _, c := range ps {
		c.Wait(t)
	}
	if got, want := string(read(t, path)[4006:]), fmt.Sprintf("%08d", procs*each); got != want {
		t.Errorf("counter is %s, want %s", got, want)
	}
}

// childFlock PATH obeys "ex", "sh", "un" and "close".
func childFlock(c *harness.Child) error {
	f, err := os.Open(c.Args[0])
	if err != nil {
		return err
	}
	if err := c.Say("ready"); err != nil {
		return err
	}
	return c.Obey(func(line string) (string, error) {
		op, isOp := map[string]int{"ex": unix.LOCK_EX, "sh": unix.LOCK_SH, "un": unix.LOCK_UN}[line]
		var err error
		if isOp {
			err = unix.Flock(int(f.Fd()), op|unix.LOCK_NB)
		} else {
			err = f.Close()
		}
		if err != nil {
			return err.Error(), nil
		}
		return "ok", nil
	})
}

func testFlock(t *testing.T, p *place) {
	path := p.path("f")
	write(t, path, nil)
	again := unix.EWOULDBLOCK.Error()
	a, b := harness.Spawn(t, "flock", path), harness.Spawn(t, "flock", path)
	a.Expect(t, "ready")
	b.Expect(t, "ready")
	ask(t, a, "sh", "ok")
	ask(t, b, "sh", "ok")
	ask(t, a, "ex", again)
	ask(t, b, "un", "ok")
	ask(t, a, "ex", "ok")
	ask(t, b, "sh", again)
	ask(t, a, "close", "ok")
	ask(t, b, "ex", "ok")
	b.Kill()
	f := open(t, path, os.O_RDONLY)
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	a.Wait(t)
}
