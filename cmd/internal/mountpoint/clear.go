package mountpoint

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Errors of Clear on which callers branch.
var (
	// ErrServed says that a view is mounted here and its daemon lives.
	ErrServed = errors.New("a view is mounted there and alive")
	// ErrOccupied says that some other file system is mounted here.
	ErrOccupied = errors.New("another file system is mounted there")
)

// probeTime is how long a mounted view may take to answer before it counts as alive but stuck.
const probeTime = 5 * time.Second

// maxStacked bounds the dead mounts that are detached from one path.
const maxStacked = 16

// Clear makes sure that nothing is mounted at path: views whose daemon is dead are detached (umount2(2) MNT_DETACH),
// and their number is returned. Anything else that is mounted there is left alone: ErrServed, ErrOccupied.
func Clear(path string) (detached int, err error) {
	path, err = Resolve(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for range maxStacked {
		mounts, err := At(path)
		if err != nil || len(mounts) == 0 {
			return detached, err
		}
		top := mounts[len(mounts)-1]
		if top.Type != FSType {
			return detached, fmt.Errorf("%s: %w (%s)", path, ErrOccupied, top.Type)
		}
		done, err := detach(path, top)
		if err != nil {
			return detached, err
		}
		if done {
			detached++
		}
	}
	return detached, fmt.Errorf("%s: more than %d dead views are stacked there", path, maxStacked)
}

// detach takes away the topmost mount of a path if its daemon is dead. It reports false if somebody else did: what was
// asked about the path is then an answer about what lay beneath.
func detach(path string, top Mount) (bool, error) {
	var judged error
	if !dead(path, probeTime) {
		judged = fmt.Errorf("%s: %w", path, ErrServed)
	} else if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		judged = fmt.Errorf("cannot detach the dead view at %s: %w", path, err)
	}
	if judged == nil {
		return true, nil
	}
	mounts, err := At(path)
	if err != nil {
		return false, err
	}
	if len(mounts) == 0 || mounts[len(mounts)-1] != top {
		return false, nil
	}
	return false, judged
}

// dead reports whether the FUSE connection of the view at path has ended (ENOTCONN; ECONNABORTED just after an abort).
// A daemon that hangs is not dead: detaching its view would leave two daemons on one store.
func dead(path string, limit time.Duration) bool {
	err := Probe(path, limit)
	return errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED)
}

// ErrNoAnswer says that a mounted view did not answer in time.
var ErrNoAnswer = errors.New("the view does not answer")

// Probe asks for the figures of the file system that is mounted at path (statfs(2)), which the kernel never caches: of a
// view they come from its daemon. It returns nil if there was an answer, and ErrNoAnswer after limit; the question then
// waits on in a goroutine until the mount goes away.
func Probe(path string, limit time.Duration) error {
	answered := make(chan error, 1)
	go func() {
		var st unix.Statfs_t
		answered <- unix.Statfs(path, &st)
	}()
	select {
	case err := <-answered:
		return err
	case <-time.After(limit):
		return fmt.Errorf("%s: %w", path, ErrNoAnswer)
	}
}
