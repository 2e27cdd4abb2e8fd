package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/memdir"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/mountpoint"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/fs"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// lockable is how much memory the daemon wants to be able to lock, in bytes: the keys of about a thousand unlocked
// users.
const lockable = 1 << 20

func mustBeRoot(what string) error {
	if os.Geteuid() != 0 {
		return ui.Failf(ui.ExitNoPerm, "run the command as root", "only root can %s", what)
	}
	return nil
}

// prepareProcess makes the process fit to hold keys and many files. It comes before the first key exists.
func prepareProcess(c config.Config, log *slog.Logger) error {
	if err := secret.Harden(); err != nil {
		return ui.Fail(ui.ExitOSErr, "", err)
	}
	unix.Umask(0) // modes in the store are those that the mail server asks for
	if err := checkLockable(); err != nil {
		const next = "raise LimitMEMLOCK of the unit (ulimit -l), or set lock_memory = \"warn\""
		if c.LockMemory == "require" {
			return ui.Failf(ui.ExitOSErr, next, "keys could reach the swap space: %w", err)
		}
		log.Warn("keys could reach the swap space", "err", err)
	}
	if err := raiseFileLimit(); err != nil {
		log.Warn("cannot raise the limit of open files", "err", err)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(threadsPerCPU * runtime.NumCPU())
	}
	return nil
}

// threadsPerCPU is how many threads may run Go code for each CPU. Most of them sit in fsync(2) and its kin, and the
// scheduler takes a while to notice.
const threadsPerCPU = 4

// checkLockable tries to lock as much memory as a busy daemon would, and gives it back.
func checkLockable() error {
	b, err := unix.Mmap(-1, 0, lockable, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("cannot allocate %d KiB: %w", lockable>>10, err)
	}
	lockErr := unix.Mlock(b)
	if lockErr != nil {
		lockErr = fmt.Errorf("cannot lock %d KiB of memory: %w", lockable>>10, lockErr)
	}
	return errors.Join(lockErr, unix.Munmap(b))
}

// raiseFileLimit lifts the soft limit of open files to the hard one: the view holds a descriptor per file in use.
func raiseFileLimit() error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return err
	}
	if lim.Cur == lim.Max {
		return nil
	}
	lim.Cur = lim.Max
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &lim)
}

// prepareDirs makes the runtime directory, clears and guards the mount point, and puts the keyring in memory.
func prepareDirs(c config.Config, log *slog.Logger) error {
	if err := makeRuntimeDir(c.Control); err != nil {
		return err
	}
	mounted, err := memdir.Ensure(c.Keyring)
	if errors.Is(err, memdir.ErrNoDir) {
		return ui.Fail(ui.ExitConfig, "remove it, or set keyring to a directory on tmpfs", err)
	}
	if err != nil {
		return ui.Fail(ui.ExitOSErr, "set keyring to a directory on tmpfs", err)
	}
	if mounted {
		log.Info("mounted a tmpfs for the keyring", "dir", c.Keyring)
	}
	return guardView(c.View, log)
}

// makeRuntimeDir makes the directory of the control socket. The umask is that of the caller, or 0 in the daemon.
func makeRuntimeDir(socket string) error {
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return ui.Failf(ui.ExitOSErr, "", "cannot make the directory of the control socket: %w", err)
	}
	return nil
}

func guardView(view string, log *slog.Logger) error {
	detached, err := mountpoint.Clear(view)
	switch {
	case errors.Is(err, mountpoint.ErrServed):
		return ui.Fail(ui.ExitUnavailable, "systemctl stop mailcryptfs, or end the daemon that serves it", err)
	case errors.Is(err, mountpoint.ErrOccupied):
		return ui.Fail(ui.ExitConfig, "unmount it, or set view to another directory", err)
	case err != nil:
		return ui.Fail(ui.ExitOSErr, "", err)
	case detached > 0:
		log.Warn("detached a view that a dead daemon had left", "view", view, "count", detached)
	}
	guarded, err := mountpoint.Guard(view)
	switch {
	case errors.Is(err, mountpoint.ErrNotEmpty):
		return ui.Fail(ui.ExitConfig, "move its content into the store, or set view to an empty directory", err)
	case errors.Is(err, mountpoint.ErrNotDirectory):
		return ui.Fail(ui.ExitConfig, "set view to a directory", err)
	case err != nil:
		return ui.Fail(ui.ExitOSErr, "", err)
	case !guarded.Immutable:
		log.Info("this file system cannot make the mount point immutable; mode 000 guards it alone", "view", view)
	}
	return nil
}

// listen makes the control socket, and so makes sure that this is the only daemon of the configuration until the socket is
// closed. The hanging view of one that was killed, but cannot end, is cut off, so that the next step finds it dead.
func listen(ctx context.Context, c config.Config, log *slog.Logger) (*control.Socket, error) {
	s, err := control.Listen(ctx, c.Control)
	switch {
	case errors.Is(err, control.ErrInUse):
		return nil, ui.Fail(ui.ExitUnavailable, "mailcryptfs status", err)
	case errors.Is(err, control.ErrEnding):
		return nil, ui.Fail(ui.ExitUnavailable, "wait for its end, or end it (systemctl stop mailcryptfs): its socket may have been removed", err)
	case err != nil:
		return nil, ui.Fail(ui.ExitOSErr, "", err)
	case s.Killed:
		log.Warn("a daemon was killed and cannot end: its view is cut off", "view", c.View)
		if err := cutOff(c.View); err != nil {
			return nil, errors.Join(ui.Fail(ui.ExitOSErr, "", err), s.Close())
		}
	}
	return s, nil
}

// cutOff ends the kernel's connections of all views that are mounted at a path.
func cutOff(view string) error {
	view, err := mountpoint.Resolve(view)
	if err != nil {
		return err
	}
	mounts, err := mountpoint.At(view)
	for _, m := range mounts {
		if m.Type == mountpoint.FSType {
			err = errors.Join(err, fs.Abort(m.Minor))
		}
	}
	return err
}
