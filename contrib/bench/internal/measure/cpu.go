package measure

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const self = -1 // as a process: this one

// CPUTime is the CPU time that all threads of a process have used since it began, in user and kernel mode, to the
// nanosecond; 0 for process 0. The clock of another process is named as in clock_getcpuclockid(3): the complement of its
// id, shifted by three, and 2 for the scheduler's clock.
func CPUTime(process int) time.Duration {
	if process == 0 {
		return 0
	}
	if process == self {
		process = os.Getpid()
	}
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^process<<3|2), &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
