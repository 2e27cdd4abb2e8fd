package writers

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Clock is a number in a file that several processes map: it says how much has been written to a disk, for example.
type Clock struct{ mem []byte }

// NewClock makes the file of a clock that shows 0, or opens one that is there.
func NewClock(path string) (*Clock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if err := f.Truncate(int64(os.Getpagesize())); err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return &Clock{mem}, err
}

func (c *Clock) number() *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&c.mem[0])) }

// Set sets the time, which may not go back.
func (c *Clock) Set(n uint64) { c.number().Store(n) }

// Now is the time.
func (c *Clock) Now() uint64 { return c.number().Load() }

// Close gives back the memory; nobody may use the clock any more.
func (c *Clock) Close() error { return unix.Munmap(c.mem) }

// account is the list of one writer.
type account struct {
	f     *os.File
	clock *Clock
}

func openAccount(path string, clock *Clock) (*account, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	return &account{f, clock}, err
}

// note writes a line. What comes before the call in the program has happened by the time that the line tells, and what
// comes after it has not.
func (a *account) note(format string, args ...any) error {
	_, err := fmt.Fprintf(a.f, "%d %s\n", a.clock.Now(), fmt.Sprintf(format, args...))
	return err
}

// done writes a line for what was acknowledged, unless it failed.
func (a *account) done(err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	return a.note(format, args...)
}

// line is one line of an account.
type line struct {
	what string
	args []string
}

// arg is argument i as a number; -1 if it is none.
func (l line) arg(i int) int {
	n, err := strconv.Atoi(l.args[i])
	if err != nil {
		return -1
	}
	return n
}

// read returns the lines of an account up to a time. A writer that has not begun has no account.
func read(path string, until uint64) ([]line, error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var all []line
	for sc := bufio.NewScanner(f); sc.Scan(); {
		w := strings.Fields(sc.Text())
		if len(w) < 2 {
			continue
		}
		when, err := strconv.ParseUint(w[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if when <= until {
			all = append(all, line{what: w[1], args: w[2:]})
		}
	}
	return all, nil
}
