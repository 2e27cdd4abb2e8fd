package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	startTime = 30 * time.Second
	stopTime  = 10 * time.Second
)

// daemon is a FUSE daemon in the foreground.
type daemon struct {
	process *os.Process
	mount   string
	done    chan struct{} // closed when it has ended
}

// serve starts a program that mounts something on mount and stays, and waits for the mount. What it prints goes to a file
// named after the target.
func (e Env) serve(target, mount string, program string, args ...string) (*daemon, error) {
	log, err := os.Create(filepath.Join(e.Work, target+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d := &daemon{process: cmd.Process, mount: mount, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // its log says why it ended
		close(d.done)
	}()
	if err := d.await(); err != nil {
		text, _ := os.ReadFile(log.Name())
		return nil, errors.Join(fmt.Errorf("%s: %w\n%s", filepath.Base(program), err, text), d.stop())
	}
	return d, nil
}

// await waits until something is mounted.
func (d *daemon) await() error {
	limit := time.After(startTime)
	for {
		var at, above unix.Stat_t
		if err := unix.Stat(filepath.Dir(d.mount), &above); err != nil {
			return err
		}
		if unix.Stat(d.mount, &at) == nil && at.Dev != above.Dev {
			return nil
		}
		select {
		case <-d.done:
			return errors.New("it ended instead of serving")
		case <-limit:
			return fmt.Errorf("nothing was mounted in %v", startTime)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// stop ends the daemon: by SIGTERM, and by force when it takes too long.
func (d *daemon) stop() error {
	_ = d.process.Signal(unix.SIGTERM) // it may have ended already
	select {
	case <-d.done:
	case <-time.After(stopTime):
		_ = unix.Unmount(d.mount, unix.MNT_DETACH)
		_ = d.process.Kill()
		<-d.done
	}
	if err := unix.Unmount(d.mount, unix.MNT_DETACH); err != nil && err != unix.EINVAL {
		return fmt.Errorf("unmount %s: %w", d.mount, err)
	}
	return nil
}

// run runs a program to its end, with input on standard input, and returns what it printed.
func run(input string, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
