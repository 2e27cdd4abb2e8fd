package powercut

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"github.com/mailcryptfs/mailcryptfs/integration/writers"
)

// A disk is served by a process of its own in a mount namespace of its own, which knows no filesystem that lies on it.
// Were it one process with the test, and were that killed, the kernel would unmount the filesystem in that process's
// last moments, and wait for ever for the disk's answer.

const inside = "inside" // the last argument of a server that has its namespace

// childDisk is the server: "DIR SIZE". It says the path of its device, and then obeys: "record CLOCK BASE", "stop LOG".
// It ends with its input.
func childDisk(c *harness.Child) error {
	if c.Args[len(c.Args)-1] != inside {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		return unix.Exec("/proc/self/exe", append(slices.Clone(os.Args), inside), os.Environ())
	}
	dir := c.Args[0]
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""), os.Mkdir(dir+"/fuse", 0o700)); err != nil {
		return err
	}
	d := &disk{}
	var err error
	d.data, err = unix.Mmap(-1, 0, c.Int(1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return err
	}
	server, err := fusefs.Mount(dir+"/fuse", &diskDir{disk: d}, &fusefs.Options{
		MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "disk", Name: "disk", MaxWrite: 1 << 20, MaxBackground: 64},
	})
	if err != nil {
		return err
	}
	dev, err := attach(dir+"/fuse/disk", dir, true)
	if err != nil {
		return errors.Join(err, server.Unmount())
	}
	if err := c.Say("%s", dev.Name()); err != nil {
		return err
	}
	return errors.Join(d.obey(c), dev.Close(), unix.Unmount(dir+"/fuse", unix.MNT_DETACH))
}

// obey does what the test says.
func (d *disk) obey(c *harness.Child) error {
	return c.Obey(func(line string) (string, error) {
		switch w := strings.Fields(line); w[0] {
		case "record":
			clock, err := writers.NewClock(w[1])
			return "done", errors.Join(err, d.record(clock, w[2]))
		case "stop":
			return "done", d.stop(w[1])
		default:
			return "", fmt.Errorf("what is %q?", line)
		}
	})
}

// served is a disk as the test sees it.
type served struct {
	device string
	dir    string // for files to and from the server
	p      *harness.Proc
}

// newDisk starts a server of a disk, which ends with the test. It has to be started before a filesystem is mounted that
// it should not know.
func newDisk(t testing.TB, size int64) *served {
	t.Helper()
	dir := harness.Dir(t)
	p := harness.Spawn(t, "disk", dir, fmt.Sprint(size))
	return &served{device: p.Line(t), dir: dir, p: p}
}

// record begins a record and returns the file of what was on the disk before. All of that has to be durable.
func (d *served) record(t testing.TB, clock string) (base string) {
	t.Helper()
	base = d.dir + "/base"
	d.p.Tell(t, "record "+clock+" "+base)
	d.p.Expect(t, "done")
	return base
}

// stop ends a record and returns it.
func (d *served) stop(t testing.TB) (events []event) {
	t.Helper()
	d.p.Tell(t, "stop "+d.dir+"/log")
	d.p.Expect(t, "done")
	b, err := os.ReadFile(d.dir + "/log")
	must(t, err)
	must(t, os.Remove(d.dir+"/log"))
	for len(b) > 0 {
		e := event{off: int64(binary.LittleEndian.Uint64(b))}
		n := binary.LittleEndian.Uint64(b[8:])
		b = b[16:]
		if n > 0 {
			e.data = b[:n]
		}
		events, b = append(events, e), b[n:]
	}
	return events
}

// end ends the server; nothing may use the disk any more.
func (d *served) end(t testing.TB) {
	t.Helper()
	d.p.Wait(t)
}
