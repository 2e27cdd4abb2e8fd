package trap

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// Answer says what shall become of a call.
type Answer struct {
	errno unix.Errno
	value int64
	pass  bool
}

// Pass lets the kernel do the call.
var Pass = Answer{pass: true}

// Fail lets the call fail.
func Fail(e unix.Errno) Answer { return Answer{errno: e} }

// Return lets the call have this result without being done.
func Return(v int64) Answer { return Answer{value: v} }

// Judge decides about calls. It runs on one goroutine for each daemon, and must not use the view: the daemon waits for it.
type Judge func(*Call) Answer

// Syncs are the calls that make something durable.
var Syncs = []string{"fsync", "fdatasync", "syncfs"}

// Swallow lets the calls that f names succeed without being done.
func Swallow(f func(*Call) bool) Judge {
	return func(c *Call) Answer {
		if f(c) {
			return Return(0)
		}
		return Pass
	}
}

// Trap waits for daemons and their calls.
type Trap struct {
	socket string
	calls  []string
	ln     net.Listener
	judge  atomic.Pointer[Judge]
	wg     sync.WaitGroup
	stop   [2]int // a pipe; closed at the end
}

// New makes a trap for the calls of these names (see table); the test binary's harness.Procs have to hold Child as
// "trap". Until SetJudge every call passes.
func New(t testing.TB, calls ...string) *Trap {
	t.Helper()
	p := &Trap{socket: filepath.Join(harness.Dir(t), "s"), calls: calls}
	if _, err := numbersOf(calls); err != nil {
		t.Fatal(err)
	}
	var err error
	if p.ln, err = net.Listen("unix", p.socket); err != nil {
		t.Fatal(err)
	}
	if err := unix.Pipe2(p.stop[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	p.wg.Go(func() { p.accept(t) })
	t.Cleanup(func() {
		_ = p.ln.Close()
		_ = unix.Close(p.stop[1])
		p.wg.Wait()
		_ = unix.Close(p.stop[0])
	})
	return p
}

// Under is what runs the daemon, for harness.Options.
func (p *Trap) Under() []string {
	return harness.Command("trap", p.socket, strings.Join(p.calls, ","))
}

// SetJudge has f decide about all calls that come from now on; nil lets them pass.
func (p *Trap) SetJudge(f Judge) {
	if f == nil {
		p.judge.Store(nil)
		return
	}
	p.judge.Store(&f)
}

func (p *Trap) accept(t testing.TB) {
	for {
		conn, err := p.ln.Accept()
		if err != nil {
			return // the end of the test
		}
		fd, err := receive(conn.(*net.UnixConn))
		if err != nil {
			t.Errorf("trap: %v", err)
			return
		}
		p.wg.Go(func() {
			defer func() { _ = unix.Close(fd) }()
			if err := p.serve(fd); err != nil {
				t.Errorf("trap: %v", err)
			}
		})
	}
}

// receive takes the listener's descriptor from a Child.
func receive(conn *net.UnixConn) (int, error) {
	defer func() { _ = conn.Close() }()
	oob := make([]byte, 64)
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return -1, err
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return -1, errors.Join(errors.New("no descriptor came"), err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return -1, errors.Join(errors.New("no descriptor came"), err)
	}
	return fds[0], nil
}

// notification and response are struct seccomp_notif and seccomp_notif_resp of linux/seccomp.h.
type notification struct {
	id    uint64
	tid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

type response struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// serve answers the calls of one daemon until it is gone or the test ends.
func (p *Trap) serve(fd int) error {
	for {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(p.stop[0]), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err == unix.EINTR {
			continue
		} else if err != nil {
			return os.NewSyscallError("poll", err)
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			return nil
		}
		var n notification
		if errno := ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)); errno != 0 {
			continue // the caller died meanwhile
		}
		a := p.decide(&n)
		r := response{id: n.id, value: a.value, errno: -int32(a.errno)}
		if a.pass {
			r.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
		}
		if errno := ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)); errno != 0 && errno != unix.ENOENT {
			return os.NewSyscallError("seccomp answer", errno)
		}
	}
}

func (p *Trap) decide(n *notification) Answer {
	f := p.judge.Load()
	if f == nil {
		return Pass
	}
	i, ok := infoOf(uintptr(n.nr))
	if !ok {
		return Pass
	}
	c := &Call{Name: i.name, kind: i.kind, tid: int(n.tid), args: n.args}
	return (*f)(c)
}

func ioctl(fd int, req uintptr, arg unsafe.Pointer) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(arg))
	return errno
}
