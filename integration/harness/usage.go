package harness

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// ProcStatus is a number that the kernel tells of a process, in a field of its /proc/PID/status: "Threads", or in KiB
// "VmRSS", what it has in memory now, and "VmHWM", the most that it has had.
func ProcStatus(t testing.TB, pid int, field string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("process %d has no %s", pid, field)
	return 0
}

// Descriptors is how many file descriptors a process has open.
func Descriptors(t testing.TB, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
