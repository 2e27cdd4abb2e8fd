package trap

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Call is a system call that the daemon waits in.
type Call struct {
	// Name is that of the system call, as in the manual, without a number at its end ("pwrite", "fstatat").
	Name string
	kind kind
	tid  int
	args [6]uint64
}

// Path is the file that the call is about, with the path of the directory that it goes by; "" if that cannot be told. A
// file without a name has a path of the kernel's making below its filesystem.
func (c *Call) Path() string {
	dirfd, at := c.args[0], c.args[1]
	if c.Name == "symlinkat" {
		dirfd, at = c.args[1], c.args[2]
	}
	base := ""
	if fd := int32(dirfd); fd != unix.AT_FDCWD {
		var err error
		if base, err = os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", c.tid, fd)); err != nil {
			return ""
		}
	}
	if c.kind == byFD {
		return base
	}
	name := c.text(at)
	if strings.HasPrefix(name, "/") {
		return name
	}
	return filepath.Join(base, name)
}

// Below reports whether the call is about something below a directory, or about that directory.
func (c *Call) Below(dir string) bool {
	p := c.Path()
	return p == dir || strings.HasPrefix(p, dir+"/")
}

// IsDir reports whether the call is about a directory.
func (c *Call) IsDir() bool {
	info, err := os.Stat(c.Path())
	return err == nil && info.IsDir()
}

// Arg is argument i, as the manual numbers them from 0.
func (c *Call) Arg(i int) uint64 { return c.args[i] }

// text reads a string of at most PATH_MAX bytes from the daemon's memory.
func (c *Call) text(at uint64) string {
	const page = 4096
	var all []byte
	for len(all) < unix.PathMax {
		buf := make([]byte, page-at%page) // never across a page: the next one may not be there
		n, err := c.peek(buf, at)
		if err != nil {
			return ""
		}
		if end := bytes.IndexByte(buf[:n], 0); end >= 0 {
			return string(append(all, buf[:end]...))
		}
		all, at = append(all, buf[:n]...), at+uint64(n)
	}
	return ""
}

func (c *Call) peek(p []byte, at uint64) (int, error) {
	local := []unix.Iovec{{Base: &p[0], Len: uint64(len(p))}}
	return unix.ProcessVMReadv(c.tid, local, []unix.RemoteIovec{{Base: uintptr(at), Len: len(p)}}, 0)
}

func (c *Call) poke(p []byte, at uint64) (int, error) {
	local := []unix.Iovec{{Base: &p[0], Len: uint64(len(p))}}
	return unix.ProcessVMWritev(c.tid, local, []unix.RemoteIovec{{Base: uintptr(at), Len: len(p)}}, 0)
}

// Short does the first part of a pread, pwrite, read or write in the daemon's place and lets it return how much that
// was, as a call does that a signal or a full disk ended. A call for one byte passes.
func (c *Call) Short() Answer {
	want := int(c.args[2])
	if want < 2 {
		return Pass
	}
	n, err := c.part(make([]byte, want/2))
	if err != nil {
		return Pass // the daemon shall see the kernel's own error
	}
	return Return(int64(n))
}

func (c *Call) part(p []byte) (int, error) {
	fd, err := c.borrow(int(c.args[0]))
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	switch c.Name {
	case "pwrite", "write":
		if _, err := c.peek(p, c.args[1]); err != nil {
			return 0, err
		}
		if c.Name == "write" {
			return unix.Write(fd, p)
		}
		return unix.Pwrite(fd, p, int64(c.args[3]))
	case "pread":
		n, err := unix.Pread(fd, p, int64(c.args[3]))
		return c.give(p[:max(n, 0)], err)
	case "read":
		n, err := unix.Read(fd, p)
		return c.give(p[:max(n, 0)], err)
	}
	return 0, unix.ENOSYS
}

func (c *Call) give(p []byte, err error) (int, error) {
	if err != nil || len(p) == 0 {
		return 0, err
	}
	return c.poke(p, c.args[1])
}

// borrow is a descriptor of this process for one of the daemon's.
func (c *Call) borrow(fd int) (int, error) {
	pid, err := c.process()
	if err != nil {
		return -1, err
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(pidfd) }()
	return unix.PidfdGetfd(pidfd, fd, 0)
}

// process is the id of the process that the calling thread belongs to.
func (c *Call) process() (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.tid))
	if err != nil {
		return 0, err
	}
	var pid int
	_, after, _ := strings.Cut(string(b), "\nTgid:")
	_, err = fmt.Sscan(after, &pid)
	return pid, err
}
