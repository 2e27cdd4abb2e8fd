package harness

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Procs are the functions of a test binary that can run as processes of their own, by name.
type Procs map[string]func(*Child) error

// Child is what such a function gets: its arguments, and lines to and from the test.
type Child struct {
	Args []string
	in   *bufio.Scanner
}

// Say sends one line to the test.
func (c *Child) Say(format string, args ...any) error {
	_, err := fmt.Fprintf(os.Stdout, format+"\n", args...)
	return err
}

// Hear waits for one line of the test; io.EOF when the test has nothing more to say.
func (c *Child) Hear() (string, error) {
	if c.in.Scan() {
		return c.in.Text(), nil
	}
	if err := c.in.Err(); err != nil {
		return "", err
	}
	return "", io.EOF
}

// Obey answers each line of the test, until the test has nothing more to say. An error ends the child.
func (c *Child) Obey(answer func(line string) (string, error)) error {
	for {
		line, err := c.Hear()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		said, err := answer(line)
		if err != nil {
			return err
		}
		if err := c.Say("%s", said); err != nil {
			return err
		}
	}
}

// Int is argument i as a number.
func (c *Child) Int(i int) int {
	n, err := strconv.Atoi(c.Args[i])
	if err != nil {
		panic(err)
	}
	return n
}

func runChild(name string, procs Procs) int {
	err := errors.New("no such function: " + name)
	if f := procs[name]; f != nil {
		err = takeIDs(os.Getenv(envIDs))
		if err == nil {
			err = f(&Child{Args: os.Args[1:], in: bufio.NewScanner(os.Stdin)})
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}

// takeIDs becomes "uid:gid[:group…]"; an empty string stays root.
func takeIDs(ids string) error {
	if ids == "" {
		return nil
	}
	var n []int
	for _, s := range strings.Split(ids, ":") {
		id, err := strconv.Atoi(s)
		if err != nil {
			return err
		}
		n = append(n, id)
	}
	return errors.Join(syscall.Setgroups(n[1:]), syscall.Setresgid(n[1], n[1], n[1]), syscall.Setresuid(n[0], n[0], n[0]))
}

// IDs are the ids of a child; the zero value stays root.
type IDs struct {
	UID, GID int
	Groups   []int
}

func (i IDs) String() string {
	if i.UID == 0 {
		return ""
	}
	s := fmt.Sprintf("%d:%d", i.UID, i.GID)
	for _, g := range i.Groups {
		s += ":" + strconv.Itoa(g)
	}
	return s
}

// Proc is a child that runs.
type Proc struct {
	cmd    *exec.Cmd
	name   string
	in     io.WriteCloser
	out    *bufio.Scanner
	stderr bytes.Buffer
	wait   func() error
}

// Command is the argv that runs the function name of this binary with these arguments, as root, for whom another program
// starts it.
func Command(name string, args ...string) []string {
	return append([]string{"env", envChild + "=" + name, envIDs + "=", "/proc/" + strconv.Itoa(os.Getpid()) + "/exe"}, args...)
}

// Spawn runs the function name of this binary as a process, as root.
func Spawn(t testing.TB, name string, args ...string) *Proc {
	t.Helper()
	return SpawnAs(t, IDs{}, name, args...)
}

// SpawnAs runs the function name of this binary as a process with other ids. It is killed when the test ends.
func SpawnAs(t testing.TB, ids IDs, name string, args ...string) *Proc {
	t.Helper()
	p := &Proc{cmd: exec.Command("/proc/self/exe", args...), name: name}
	// The race detector of a child would wait a second at its end.
	p.cmd.Env = append(os.Environ(), envChild+"="+name, envIDs+"="+ids.String(), "GORACE=atexit_sleep_ms=0")
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.wait = sync.OnceValue(p.cmd.Wait)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.wait()
	})
	return p
}

// Tell sends one line to the child.
func (p *Proc) Tell(t testing.TB, line string) {
	t.Helper()
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		t.Fatalf("%s: cannot tell %q: %v", p.name, line, err)
	}
}

// Line waits for one line of the child and fails the test when the child ends instead.
func (p *Proc) Line(t testing.TB) string {
	t.Helper()
	if p.out.Scan() {
		return p.out.Text()
	}
	err := p.wait()
	t.Fatalf("%s ended (%v) instead of saying something: %s", p.name, err, p.stderr.String())
	return ""
}

// Expect waits for one line of the child and fails the test when it is another.
func (p *Proc) Expect(t testing.TB, want string) {
	t.Helper()
	if got := p.Line(t); got != want {
		t.Fatalf("%s said %q, want %q", p.name, got, want)
	}
}

// Wait closes the child's input, and fails the test unless the child ends well.
func (p *Proc) Wait(t testing.TB) {
	t.Helper()
	_ = p.in.Close()
	for p.out.Scan() {
		t.Logf("%s: %s", p.name, p.out.Text())
	}
	if err := p.wait(); err != nil {
		t.Errorf("%s: %v: %s", p.name, err, p.stderr.String())
	}
}

// Ended is closed when the child has ended. It is for children that say nothing.
func (p *Proc) Ended() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.wait()
	}()
	return done
}

// Kill ends the child with SIGKILL and waits until it is gone.
func (p *Proc) Kill() {
	_ = p.cmd.Process.Kill()
	_ = p.wait()
}

// PID is the child's process id.
func (p *Proc) PID() int { return p.cmd.Process.Pid }

// runLocked starts cmd and waits for it on one thread: the signal of Pdeathsig comes when that thread ends.
func runLocked(cmd *exec.Cmd, started chan<- error, ended func(error)) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Start()
	started <- err
	if err != nil {
		ended(err)
		return
	}
	ended(cmd.Wait())
}
