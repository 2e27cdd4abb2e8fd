package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/mountpoint"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/fs"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// shutdownTime is how long running control requests may take once the daemon was asked to end.
const shutdownTime = 5 * time.Second

// daemonOptions say what to run.
type daemonOptions struct {
	path    string // of the configuration
	config  config.Config
	site    *siteFlags
	log     *slog.Logger
	hangups <-chan os.Signal
}

// runDaemon serves until ctx ends or something that it cannot do without breaks. What it opened it closes in the
// opposite order: control socket, view, keys.
func runDaemon(ctx context.Context, o daemonOptions) (err error) {
	c, log := o.config, o.log
	recipients, err := recoveryPolicyOf(o.path, c)
	if err != nil {
		return err
	}
	// The directory of the socket first: until the socket is closed, no other daemon touches what follows.
	if err := makeRuntimeDir(c.Control); err != nil {
		return err
	}
	socket, err := listen(ctx, c, log)
	if errors.Is(err, context.Canceled) {
		return nil // a signal, while another daemon was ending
	}
	if err != nil {
		return err
	}
	defer socket.Close() // last of all; the server closes the listener, but not what keeps other daemons out
	if err := prepareDirs(c, log); err != nil {
		return err
	}
	k, err := openKeys(ctx, o, recipients)
	if err != nil {
		return err
	}
	defer k.close()
	v, err := fs.Mount(fs.Options{
		Store: c.Store, View: c.View, Layout: layoutOf(c), Site: k.site, Keys: k.ring, Log: log, XAttrs: c.XAttrs, Cluster: c.Cluster,
		Worker: fs.WorkerLimits{FilesPerSecond: c.WorkerFiles, BytesPerSecond: c.WorkerBytes, Users: c.WorkerUsers},
	})
	if err != nil {
		return ui.Failf(ui.ExitOSErr, "", "cannot mount the view: %w", err)
	}
	s := newService(o, k, v)
	eraseSoon := eraser()
	defer s.pids.Close()
	k.gone.Store(new(func(u account.User) {
		s.converter.locked(u) // at once: a pass that goes on without the key proves nothing, and KeysGone takes long
		v.KeysGone(u)
		eraseSoon()
	}))
	err = attend(ctx, o, s, socket.UnixListener, v)
	return errors.Join(err, unmount(v, c.View, log))
}

// attend runs everything that goes on beside the view, until ctx ends or one of it fails.
func attend(ctx context.Context, o daemonOptions, s *service, socket *net.UnixListener, v *fs.View) error {
	c, log := o.config, o.log
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
		func() error { return servePAM(ctx, logins, newLogins(c, s.ring, s.policy, s.converter.poke), log) },
		func() error { return ticking(ctx, time.Second, s.converter.run) },
		func() error { return ticking(ctx, keeperInterval(c.Grace), s.keeper.Run) },
		func() error { return ticking(ctx, tallyInterval, s.tally.run) },
		func() error { return s.reloader.onSignal(ctx, o.hangups) },
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
	gone, failed := waitForEnd(ctx, ended)
	notify(log, daemon.SdNotifyStopping)
	log.Info("ending")
	cancel(nil)
	stopping, done := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer done()
	errs := []error{failed, server.Shutdown(stopping)}
	for range len(parts) - gone {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// waitForEnd returns when ctx or a part of the daemon has ended: how many parts were heard of, and why that is a failure.
func waitForEnd(ctx context.Context, ended <-chan error) (parts int, failed error) {
	select {
	case <-ctx.Done():
	case failed = <-ended:
		parts = 1
	}
	if ctx.Err() == nil && failed == nil {
		return parts, ui.Failf(ui.ExitSoftware, "", "a part of the daemon ended on its own")
	}
	// Parts end with ctx, and one of them may have been heard of first.
	if ctx.Err() != nil && errors.Is(failed, context.Canceled) {
		failed = nil
	}
	// A signal is no failure; that the view has gone is.
	if cause := (*ui.Problem)(nil); errors.As(context.Cause(ctx), &cause) {
		failed = errors.Join(cause, failed)
	}
	return parts, failed
}

// ticking runs f with a ticker until ctx ends.
func ticking(ctx context.Context, every time.Duration, f func(context.Context, <-chan time.Time)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	f(ctx, tick.C)
	return nil
}

func newService(o daemonOptions, k *daemonKeys, v *fs.View) *service {
	c, log := o.config, o.log
	s := &service{
		slotKeeper: slotKeeper{slots: k.ring, recipients: k.policy.recipients},
		config:     c, ring: k.ring, policy: k.policy, tally: k.tally, journal: k.journal,
		started: time.Now(), counters: func() any { return v.Stats() },
	}
	s.tally.of(&s.slotKeeper)
	s.reloader = &reloader{path: o.path, started: c, policy: k.policy, apply: k.ring.SetRecipients, escrow: k.escrow, log: log}
	s.reloader.begin()
	s.converter = newConverter(v, k.ring, c.WorkerUsers, log)
	s.pids = openPIDs(c, log)
	s.keeper = newKeeper(c, k.ring, s.pids, s.converter, v, log)
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
	prober := mountpoint.NewProber(view)
	defer prober.Close()
	_ = prober.Ask(interval) // its process is there from now on
	tick := time.NewTicker(interval / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			switch err := prober.Ask(interval / 3); {
			case ctx.Err() != nil:
				return
			case errors.Is(err, mountpoint.ErrUnknown):
				log.Warn("the watchdog cannot tell whether the view answers", "err", err)
			case err != nil:
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
