package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// inBackground runs f on a thread of its own, with the lowest best-effort I/O priority (ioprio_set(2)), and waits for
// it. Not the idle class: f holds locks of directories now and then, and whoever waits for these should not wait for the
// disk to have nothing else to do. Where the kernel refuses, f runs as usual: the priority is a courtesy. The error is that
// of f, whose panic is one, too: a mistake costs this work only.
func inBackground(f func() error) (err error) {
	const (
		whoProcess = 1 // of one thread; 0 is the calling one
		bestEffort = 2 << 13
		lowest     = 7
	)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: the thread ends with this goroutine, and no other one inherits its priority.
		runtime.LockOSThread()
		_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, 0, bestEffort|lowest)
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("a mistake of mailcryptfs, please report it: %v\n%s", v, debug.Stack())
			}
		}()
		err = f()
	}()
	<-done
	return err
}
