package session

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// errNoProcess says that no process has the id.
var errNoProcess = errors.New("no such process")

// startTime returns when the process began, in clock ticks since boot (proc_pid_stat(5)): with its id it names the
// process for good. Processes that have ended and are not yet reaped count as gone.
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return 0, errNoProcess
	}
	if err != nil {
		return 0, err
	}
	// The second field, in parentheses, may hold anything.
	i := bytes.LastIndexByte(b, ')')
	fields := bytes.Fields(b[i+1:])
	if i < 0 || len(fields) < 20 {
		return 0, fmt.Errorf("cannot understand /proc/%d/stat", pid)
	}
	if state := string(fields[0]); state == "Z" || state == "X" {
		return 0, errNoProcess
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}

// ended reports whether the process behind a pidfd has ended (pidfd_open(2): it is readable then).
func ended(fd int) (bool, error) {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, 0)
		if !errors.Is(err, unix.EINTR) {
			return n > 0, err
		}
	}
}
