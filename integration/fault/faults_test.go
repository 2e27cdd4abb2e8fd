package fault

import (
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/trap"
)

// fault is a way in which a call goes wrong.
type fault struct {
	name    string
	errno   unix.Errno // 0: the call does half of its work
	hits    func(*trap.Call) bool
	unseen  bool // the caller must notice nothing
	lasting bool // all later calls fail too, until the operation has ended
}

// changing are the calls that need room.
func changing(c *trap.Call) bool {
	switch c.Name {
	case "openat":
		return c.Arg(2)&(unix.O_CREAT|unix.O_TMPFILE&^unix.O_DIRECTORY) != 0
	case "write", "pwrite", "ftruncate", "fallocate", "fsync", "fdatasync", "mkdirat", "mknodat", "linkat", "symlinkat", "unlinkat",
		"renameat", "renameat2", "fsetxattr", "fremovexattr", "fchown", "fchownat", "fchmod", "fchmodat", "fchmodat2", "utimensat":
		return true
	}
	return false
}

func opening(c *trap.Call) bool {
	return c.Name == "openat" || c.Name == "fcntl" && c.Arg(1) == unix.F_DUPFD_CLOEXEC
}

func moving(c *trap.Call) bool {
	return slices.Contains([]string{"read", "write", "pread", "pwrite"}, c.Name)
}

func whichever(c *trap.Call) bool { return c.Name != "fcntl" }

var faults = []fault{
	{name: "EIO", errno: unix.EIO, hits: whichever},
	{name: "EIO and on", errno: unix.EIO, hits: whichever, lasting: true},
	{name: "ENOSPC", errno: unix.ENOSPC, hits: changing},
	{name: "EDQUOT", errno: unix.EDQUOT, hits: changing},
	{name: "EMFILE", errno: unix.EMFILE, hits: opening},
	{name: "EINTR", errno: unix.EINTR, hits: whichever, unseen: true},
	{name: "half", hits: moving, unseen: true},
}

// injector lets the n-th call on the store fail that a fault can hit.
type injector struct {
	store string
	mu    sync.Mutex
	f     fault
	n     int // which call fails; 0: none
	seen  int
	hit   []string // the calls that failed, for messages
	all   []string // every call that could
}

// arm starts counting anew.
func (i *injector) arm(f fault, n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.f, i.n, i.seen, i.hit, i.all = f, n, 0, nil, nil
}

// disarm ends it, and says which calls failed.
func (i *injector) disarm() (hit, all []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.n = 0
	return slices.Clone(i.hit), slices.Clone(i.all)
}

func (i *injector) judge(c *trap.Call) trap.Answer {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.n == 0 || !i.f.hits(c) || !c.Below(i.store) {
		return trap.Pass
	}
	i.seen++
	what := c.Name + " " + strings.TrimPrefix(c.Path(), i.store)
	i.all = append(i.all, what)
	if i.seen != i.n && (!i.f.lasting || i.seen < i.n) {
		return trap.Pass
	}
	i.hit = append(i.hit, what)
	if i.f.errno == 0 {
		return c.Short()
	}
	return trap.Fail(i.f.errno)
}
