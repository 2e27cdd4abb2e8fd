package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/mountpoint"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/fs"
	"github.com/mailcryptfs/mailcryptfs/keyring"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// shutdownTime is how long running control requests may take once the daemon was asked to end.
const shutdownTime = 5 * time.Second

// runDaemon serves until ctx ends or something that it cannot do without breaks. What it opened it closes in the
// opposite order: control socket, view, keys.
func runDaemon(ctx context.Context, c config.Config, log *slog.Logger) (err error) {
	// The directory of the socket first: holding the socket says that no other daemon touches what follows.
	if err := makeRuntimeDir(c.Control); err != nil {
		return err
	}
	socket, err := listen(c)
	if err != nil {
		return err
	}
	defer socket.Close() // for the ways out before it is served; afterwards the server has closed it
	if err := prepareDirs(c, log); err != nil {
		return err
	}
	keys, err := loadSite(c)
	if err != nil {
		return err
	}
	defer keys.Wipe()

	var gone atomic.Pointer[func(account.User)] // the ring is there before the view
	ring, err := openRing(ctx, c, keys, log, func(u account.User) {
		if f := gone.Load(); f != nil {
			(*f)(u)
		}
	})
	if err != nil {
		return err
	}
	defer ring.Close()
	v, err := fs.Mount(fs.Options{
		Store: c.Store, View: c.View, Layout: layoutOf(c), Site: keys, Keys: ring, Log: log, XAttrs: c.XAttrs, Cluster: c.Cluster,
		Worker: fs.WorkerLimits{FilesPerSecond: c.WorkerFiles, BytesPerSecond: c.WorkerBytes, Users: c.WorkerUsers},
	})
	if err != nil {
		return ui.Failf(ui.ExitOSErr, "", "cannot mount the view: %w", err)
	}
	s := newService(c, ring, v, log)
	eraseSoon := eraser()
	defer s.pids.Close()
	gone.Store(new(func(u account.User) {
		v.KeysGone(u)
		s.converter.locked(u)
		eraseSoon()
	}))
	err = attend(ctx, c, s, socket, v, log)
	return errors.Join(err, unmount(v, c.View, log))
}

func openRing(ctx context.Context, c config.Config, keys *site.Keys, log *slog.Logger, gone func(account.User)) (*keyring.Ring, error) {
	ring, err := keyring.Open(ctx, keyring.Options{
		Store: c.Store, Dir: c.Keyring, Site: keys,
		Params: slot.Params{MemoryKiB: c.KDFMemoryKiB, Time: c.KDFTime, Threads: c.KDFThreads},
		Epoch:  c.Epoch, MaxDerivations: c.MaxDerivations, Log: log, Now: time.Now, KeysGone: gone,
	})
	if err != nil {
		return nil, ui.Fail(ui.ExitConfig, "restore site secret and store as a pair, or prepare a new site with: mailcryptfs setup", err)
	}
	return ring, nil
}

// attend runs everything that goes on beside the view, until ctx ends or one of it fails.
func attend(ctx context.Context, c config.Config, s *service, socket *net.UnixListener, v *fs.View, log *slog.Logger) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	logins, err := listenPAM(c)
	if err != nil {
		return err
	}
	server := control.NewServer(s, log)
	parts := []func() error{
		func() error { return server.Serve(socket) },
		func() error { return s.ring.Watch(ctx) },
		func() error { return servePAM(ctx, logins, newLogins(c, s.ring, s.converter.poke), log) },
		func() error { return ticking(ctx, time.Second, s.converter.run) },
		func() error { return ticking(ctx, keeperInterval(c.Grace), s.keeper.Run) },
	}
	ended := make(chan error, len(parts))
	for _, part := range parts {
		go func() { ended <- part() }()
	}
	go func() {
		v.Wait()
		cancel(ui.Failf(ui.ExitOSErr, "mailcryptfs serve", "the view at %s was unmounted from outside", c.View))
	}()
	go watchdog(ctx, c.View, log)

	log.Info("serving", "store", c.Store, "view", c.View, "profile", c.Profile, "delivery", c.Delivery, "unlocked", len(s.ring.Unlocked()))
	notify(log, fmt.Sprintf("%s\nSTATUS=Serving %s", daemon.SdNotifyReady, c.View))
	var failed error
	open := len(parts)
	select {
	case <-ctx.Done():
		// A signal is no failure; that the view has gone is.
		if cause := (*ui.Problem)(nil); errors.As(context.Cause(ctx), &cause) {
			failed = cause
		}
	case failed = <-ended:
		open--
		if failed == nil && ctx.Err() == nil {
			failed = ui.Failf(ui.ExitSoftware, "", "a part of the daemon ended on its own")
		}
	}
	notify(log, daemon.SdNotifyStopping)
	log.Info("ending")
	cancel(nil)
	stopping, done := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer done()
	errs := []error{failed, server.Shutdown(stopping)}
	for range open {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// ticking runs f with a ticker until ctx ends.
func ticking(ctx context.Context, every time.Duration, f func(context.Context, <-chan time.Time)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	f(ctx, tick.C)
	return nil
}

func newService(c config.Config, ring *keyring.Ring, v *fs.View, log *slog.Logger) *service {
	s := &service{config: c, ring: ring, started: time.Now(), counters: func() any { return v.Stats() }}
	s.converter = newConverter(v, ring, c.WorkerUsers, log)
	s.pids = openPIDs(c, log)
	s.keeper = newKeeper(c, ring, s.pids, s.converter, v, log)
	return s
}

func unmount(v *fs.View, path string, log *slog.Logger) error {
	if err := v.Unmount(); err != nil {
		return ui.Failf(ui.ExitOSErr, "umount -l "+ui.Quote(path), "cannot unmount the view: %w", err)
	}
	log.Info("unmounted", "view", path)
	return nil
}

// watchdog tells systemd that the daemon lives (sd_watchdog_enabled(3)), but only as long as the view answers.
func watchdog(ctx context.Context, view string, log *slog.Logger) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return
	}
	tick := time.NewTicker(interval / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := mountpoint.Probe(view, interval/3); err != nil && ctx.Err() == nil {
				log.Error("the view does not answer; systemd will restart the daemon", "err", err)
				continue
			}
			notify(log, daemon.SdNotifyWatchdog)
		}
	}
}

// notify does nothing without systemd.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("cannot notify systemd", "err", err)
	}
}
