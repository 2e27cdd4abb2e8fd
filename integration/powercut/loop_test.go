package powercut

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// attach puts a loop device over a file. The device goes away when it is closed and nothing else uses it any more, also
// when that is because a process was killed. Nodes that /dev lacks are made in dir.
func attach(file, dir string, direct bool) (*os.File, error) {
	flags := unix.O_RDWR | unix.O_CLOEXEC
	info := unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}
	if direct {
		flags |= unix.O_DIRECT
		info.Flags |= unix.LO_FLAGS_DIRECT_IO
	}
	backing, err := unix.Open(file, flags, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(backing) }()
	control, err := unix.Open("/dev/loop-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(control) }()
	for range 100 {
		n, err := unix.IoctlRetInt(control, unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, err
		}
		dev, err := openLoop(n, dir)
		if err != nil {
			return nil, err
		}
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &unix.LoopConfig{Fd: uint32(backing), Info: info})
		if errors.Is(err, unix.EBUSY) { // somebody else was faster
			_ = dev.Close()
			continue
		}
		if err == nil && direct {
			err = checkDirect(n)
		}
		if err != nil {
			return nil, errors.Join(err, dev.Close())
		}
		return dev, nil
	}
	return nil, errors.New("no loop device is free")
}

func checkDirect(n int) error {
	uses, err := os.ReadFile(fmt.Sprintf("/sys/block/loop%d/loop/dio", n))
	if err == nil && !bytes.HasPrefix(uses, []byte("1")) {
		err = errors.New("the loop device does not use direct I/O")
	}
	return err
}

// openLoop opens loop device n.
func openLoop(n int, dir string) (*os.File, error) {
	name := fmt.Sprintf("/dev/loop%d", n)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if !errors.Is(err, os.ErrNotExist) {
		return f, err
	}
	const loopMajor = 7
	name = fmt.Sprintf("%s/loop%d", dir, n)
	if err := unix.Mknod(name, unix.S_IFBLK|0o600, int(unix.Mkdev(loopMajor, uint32(n)))); err != nil && err != unix.EEXIST {
		return nil, err
	}
	return os.OpenFile(name, os.O_RDWR, 0)
}
