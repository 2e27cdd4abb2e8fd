package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestListenWaitsForTheEnd starts a daemon while one that serves no socket any more has not ended.
func TestListenWaitsForTheEnd(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	first, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.UnixListener.Close(); err != nil { // as its server does; view and keys come later
		t.Fatal(err)
	}
	soon, cancel := context.WithTimeout(t.Context(), 2*endPause)
	defer cancel()
	if _, err := Listen(soon, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("while the first one ends: %v", err)
	}
	started := make(chan error, 1)
	go func() {
		second, err := Listen(t.Context(), path)
		if err == nil {
			err = second.Close()
		}
		started <- err
	}()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-started; err != nil {
		t.Errorf("after its end: %v", err)
	}
}

// TestListenAtOnce starts many daemons over the socket of a dead one. One of them serves, and the others find it.
func TestListenAtOnce(t *testing.T) {
	t.Parallel()
	for range 20 {
		path := filepath.Join(t.TempDir(), "s")
		stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		stale.SetUnlinkOnClose(false)
		if err := stale.Close(); err != nil {
			t.Fatal(err)
		}
		const starts = 8
		type result struct {
			*Socket
			error
		}
		results := make(chan result, starts)
		for range starts {
			go func() {
				s, err := Listen(t.Context(), path)
				results <- result{s, err}
			}()
		}
		serving := 0
		for range starts {
			switch r := <-results; {
			case r.error == nil:
				serving++
				defer r.Close()
			case !errors.Is(r.error, ErrInUse):
				t.Error(r.error)
			}
		}
		if serving != 1 {
			t.Fatalf("%d daemons serve", serving)
		}
	}
}

// TestListenAfterKilled starts daemons after one that was killed and cannot end: it still holds socket and lock.
func TestListenAfterKilled(t *testing.T) {
	t.Parallel()
	if path := os.Getenv("CONTROL_TEST_KILLED"); path != "" {
		beKilled(t, path)
	}
	path := filepath.Join(t.TempDir(), "s")
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestListenAfterKilled$")
	cmd.Env = []string{"CONTROL_TEST_KILLED=" + path}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if said, err := bufio.NewReader(out).ReadString('\n'); said != "listening\n" {
		t.Fatalf("child: %q, %v", said, err)
	}
	stat := fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid)
	end := time.Now().Add(time.Minute)
	for text := []byte(nil); !strings.Contains(string(text), ") Z "); time.Sleep(time.Millisecond) {
		if text, err = os.ReadFile(stat); err != nil || time.Now().After(end) {
			t.Fatalf("the child does not become what it shall: %s %v", text, err)
		}
	}
	s, err := Listen(t.Context(), path)
	if err != nil || !s.Killed {
		t.Fatalf("%+v, %v", s, err)
	}
	if _, err := Listen(t.Context(), path); !errors.Is(err, ErrInUse) {
		t.Errorf("the next one: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Listen(t.Context(), path); err != nil || s.Killed {
		t.Fatalf("after that: %+v, %v", s, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// beKilled becomes what a daemon is that was killed while a thread of it waits in the kernel: its first thread is a zombie,
// its files stay open.
func beKilled(t *testing.T, path string) {
	if _, err := Listen(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	fmt.Println("listening")
	// Goroutines that keep their threads, until one has the first.
	for range 100 {
		go func() {
			runtime.LockOSThread()
			if unix.Gettid() == os.Getpid() {
				_, _, _ = unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
			}
			select {}
		}()
	}
	time.Sleep(time.Hour)
}
