package measure

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/sys/unix"
)

// Tracer counts the requests that the kernel sends to FUSE daemons, by the kernel's own trace points
// (events/fuse/fuse_request_send, in an instance of its own beside whatever else is traced). FORGET has no trace point.
type Tracer struct {
	mount string // tracefs was mounted here by NewTracer; "" if it was there already
	dir   string // the instance
}

// NewTracer prepares counting in a tracing instance of that name, which must not exist; tracefs is mounted on mountpoint
// unless it is where it usually is. It fails where the kernel has no such trace points (they came with Linux 6.11) or the
// caller may not use them.
func NewTracer(name, mountpoint string) (*Tracer, error) {
	t := &Tracer{}
	root := "/sys/kernel/tracing"
	if _, err := os.Stat(filepath.Join(root, "instances")); err != nil {
		if err := os.MkdirAll(mountpoint, 0o700); err != nil {
			return nil, err
		}
		if err := unix.Mount("tracefs", mountpoint, "tracefs", 0, ""); err != nil {
			return nil, fmt.Errorf("cannot mount tracefs: %w", err)
		}
		root, t.mount = mountpoint, mountpoint
	}
	t.dir = filepath.Join(root, "instances", name)
	if err := os.Mkdir(t.dir, 0o700); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	if err := errors.Join(t.set("buffer_size_kb", "32768"), t.set("tracing_on", "1")); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	if _, err := os.Stat(filepath.Join(t.dir, "events/fuse/fuse_request_send")); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// Close removes the instance, and unmounts tracefs if NewTracer mounted it.
func (t *Tracer) Close() error {
	err := os.Remove(t.dir)
	if t.mount != "" {
		err = errors.Join(err, unix.Unmount(t.mount, unix.MNT_DETACH))
	}
	return err
}

func (t *Tracer) set(file, value string) error {
	return os.WriteFile(filepath.Join(t.dir, file), []byte(value), 0)
}

// Start begins to count requests of the mount with that device number (st_dev). The function that it returns ends it, and
// gives the number of requests by name, such as "LOOKUP".
func (t *Tracer) Start(device uint64) (func() (map[string]int, error), error) {
	const event = "events/fuse/fuse_request_send/"
	// The kernel's dev_t has the minor number in its lower 20 bits; FUSE mounts have major number 0.
	filter := fmt.Sprintf("connection == %d", unix.Minor(device)|unix.Major(device)<<20)
	err := errors.Join(t.set(event+"filter", filter), t.set("trace", ""), t.set(event+"enable", "1"))
	if err != nil {
		return nil, err
	}
	return func() (map[string]int, error) {
		counts, err := t.settled()
		return counts, errors.Join(err, t.set(event+"enable", "0"))
	}, nil
}

// settled reads the counts when no more come: RELEASE, for one, is sent some time after close(2) returned.
func (t *Tracer) settled() (map[string]int, error) {
	const quiet = 20 * time.Millisecond
	before := -1
	for {
		counts, total, err := t.read()
		if err != nil || total == before {
			return counts, err
		}
		before = total
		time.Sleep(quiet)
	}
}

var opcode = regexp.MustCompile(`opcode \d+ \(FUSE_(\w+)\)`)

func (t *Tracer) read() (counts map[string]int, total int, err error) {
	data, err := os.ReadFile(filepath.Join(t.dir, "trace"))
	if err != nil {
		return nil, 0, err
	}
	counts = map[string]int{}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		if bytes.Contains(lines.Bytes(), []byte("LOST")) {
			return nil, 0, errors.New("the trace buffer was too small")
		}
		if m := opcode.FindSubmatch(lines.Bytes()); m != nil {
			counts[string(m[1])]++
			total++
		}
	}
	return counts, total, nil
}
