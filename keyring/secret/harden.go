package secret

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Harden makes the process undumpable and limits core files to nothing: no core dump, and no ptrace or /proc/PID/mem
// for anyone without CAP_SYS_PTRACE (prctl(2) PR_SET_DUMPABLE, setrlimit(2) RLIMIT_CORE). Call it before the first key
// exists. Both settings last until the process ends; execve(2) of another program resets the first.
func Harden() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot make the process undumpable: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 0, Max: 0}); err != nil {
		return fmt.Errorf("cannot forbid core files: %w", err)
	}
	return nil
}
