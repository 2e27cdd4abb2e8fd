package cli

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// stuck is what a daemon leaves that was killed while a thread of it waits in the kernel, for what only it could answer:
// the first thread is a zombie, the sockets and /dev/fuse stay open, and nobody answers. Arguments: control socket, view.
func stuck(c *harness.Child) error {
	l, err := net.Listen("unix", c.Args[0])
	if err != nil {
		return err
	}
	defer l.Close()
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer fuse.Close()
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fuse.Fd())
	if err := unix.Mount(c.Args[1], c.Args[1], "fuse.mailcryptfs", 0, options); err != nil {
		return err
	}
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
	select {}
}

// TestStuckDaemon starts a daemon after one that was killed and cannot end: the view is served again at once.
func TestStuckDaemon(t *testing.T) {
	s := harness.New(t, harness.Options{})
	s.Announce("a daemon was killed and cannot end")
	s.Announce("detached a view that a dead daemon had left")
	p := harness.Spawn(t, "stuck", s.Control, s.View)
	harness.Eventually(t, time.Minute, "a process whose first thread is a zombie", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
		return err == nil && bytes.Contains(stat, []byte(") Z "))
	})
	s.Serve(t)
	if _, err := os.ReadDir(s.View); err != nil {
		t.Error(err)
	}
	s.Enroll(t, "alice")
}
