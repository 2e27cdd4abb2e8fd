package cyrus

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// reap is a process that outlives the test, however it ends: it then kills what still runs in the root that is its
// argument, whoever started it.
func reap(c *harness.Child) error {
	root, err := mountOf(c.Args[0])
	if err != nil {
		return err
	}
	if err := c.Say("ready"); err != nil {
		return err
	}
	if _, err := c.Hear(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for {
		pids, err := processesIn(root, "")
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// mountOf is the id of the mount that a path is on. When a test ends without its own consent, paths become useless before
// processes are gone: then only this tells the roots apart.
func mountOf(path string) (uint64, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st)
	return st.Mnt_id, err
}

// processesIn are the ids of processes whose root is on a mount and whose program has the name; all if it is empty.
func processesIn(root uint64, name string) (pids []int, err error) {
	entries, err := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		mount, err := mountOf(filepath.Join("/proc", e.Name(), "root"))
		exe, _ := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		if err == nil && mount == root && (name == "" || filepath.Base(exe) == name) {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// processes are the ids of processes in the root whose program has the name.
func (r *root) processes(t testing.TB, name string) []int {
	t.Helper()
	root, err := mountOf(r.dir)
	must(t, err)
	pids, err := processesIn(root, name)
	must(t, err)
	return pids
}
