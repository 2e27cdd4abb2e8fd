package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/report"
)

// machine describes where the benchmark runs.
func machine(revision, lower string) report.Machine {
	m := report.Machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), Revision: revision, Lower: lower, LoadBegun: load()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = "Linux " + unix.ByteSliceToString(u.Release[:])
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.MemoryMiB = int(uint64(info.Totalram) * uint64(info.Unit) >> 20)
	}
	text, _ := os.ReadFile("/proc/cpuinfo") // not there: no model in the report
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			m.CPU = strings.TrimSpace(value)
		}
	}
	return m
}

// load is the load average of the last minute.
func load() float64 {
	var average float64
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	if _, err := fmt.Sscan(string(text), &average); err != nil {
		return 0
	}
	return average
}
