package fs

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	unmountTries = 25
	unmountPause = 200 * time.Millisecond
	endWait      = 2 * time.Second // then the connection lives on; its number is another's soon after its end
	abortWait    = 5 * time.Second
)

// Unmount ends the view. While processes use it, it tries for five seconds; then it
// detaches the mount. Where the kernel's connection lives on, because of open files or
// because another mount namespace has a copy of the mount, it is cut, and what is
// open fails from then on. When Unmount returns nil no request is being served any
// more, unless the kernel did not let the connection be cut: then it ends with the
// process.
func (v *View) Unmount() error {
	var err error
	for range unmountTries {
		if err = unix.Unmount(v.mount, unix.UMOUNT_NOFOLLOW); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(unmountPause)
	}
	if errors.Is(err, unix.EBUSY) {
		err = unix.Unmount(v.mount, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	if err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: no longer mounted
		return fmt.Errorf("cannot unmount %s: %w", v.mount, err)
	}
	served, closed := make(chan struct{}), make(chan struct{})
	go func() {
		v.Wait()
		close(served)
		v.tree.Close()
		close(closed)
	}()
	if !ended(served, endWait) {
		if err := Abort(v.minor); err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return nil // it cannot be cut; where there is none any more, its last requests are coming to their end
		}
	}
	if ended(closed, abortWait) {
		return nil
	}
	return fmt.Errorf("requests are still being served after %s was unmounted", v.mount)
}

func ended(done <-chan struct{}, wait time.Duration) bool {
	select {
	case <-done:
		return true
	case <-time.After(wait):
		return false
	}
}

const connections = "/sys/fs/fuse/connections"

// Abort cuts the kernel's connection of the FUSE mount whose device has that minor
// number (Documentation/filesystems/fuse.rst): whatever waits for its daemon fails with
// ECONNABORTED, and so does what comes later. It returns os.ErrNotExist if there is no
// such connection. Where the control filesystem is not mounted, as in many containers,
// it is for a moment.
func Abort(minor uint32) error {
	file := fmt.Sprintf("%s/%d/abort", connections, minor)
	err := os.WriteFile(file, []byte("1"), 0)
	if !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	if err := unix.Mount("fusectl", connections, "fusectl", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("cannot reach %s: %w", file, err)
	}
	err = os.WriteFile(file, []byte("1"), 0)
	return errors.Join(err, unix.Unmount(connections, 0))
}
