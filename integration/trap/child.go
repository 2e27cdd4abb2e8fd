package trap

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// Child is the function of a test binary's harness.Procs by which the daemon is started: "SOCKET CALL,… PROGRAM ARGUMENT…".
// It puts the filter on itself, sends the test the descriptor by which to listen, and becomes the program.
func Child(c *harness.Child) error {
	numbers, err := numbersOf(strings.Split(c.Args[1], ","))
	if err != nil {
		return err
	}
	conn, err := net.Dial("unix", c.Args[0])
	if err != nil {
		return err
	}
	raw, err := conn.(*net.UnixConn).File()
	if err != nil {
		return err
	}
	if err := conn.Close(); err != nil {
		return err
	}
	sock := int(raw.Fd())
	runtime.LockOSThread() // the filter is this thread's
	listener, err := install(numbers)
	if err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	// Before the test has the listener nobody answers: none of these calls may be one of those.
	if err := unix.Sendmsg(sock, []byte{0}, unix.UnixRights(listener), nil, 0); err != nil {
		return err
	}
	if err := errors.Join(unix.Close(listener), raw.Close()); err != nil {
		return err
	}
	env := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "MAILCRYPTFS_TEST_") })
	return unix.Exec(c.Args[2], c.Args[2:], env)
}

func numbersOf(names []string) ([]uintptr, error) {
	var all []uintptr
	for _, name := range names {
		i := slices.IndexFunc(table, func(i syscallInfo) bool { return i.name == name })
		if i < 0 {
			return nil, errors.New("no such call: " + strconv.Quote(name))
		}
		all = append(all, table[i].nr)
	}
	return all, nil
}

// install puts a filter on this thread that reports the calls with these numbers, and returns the descriptor of the
// listener. A call that has been reported is not given up for a signal, only for the process's end: the Go runtime
// sends itself signals all the time.
func install(numbers []uintptr) (listener int, err error) {
	code := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // seccomp_data.nr
	for i, nr := range numbers {
		code = append(code, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: uint8(len(numbers) - i), K: uint32(nr)})
	}
	code = append(code,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF})
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(code)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}
