package main

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/fs"
)

func newServe(a *app) *cobra.Command {
	var check bool
	var s *siteFlags
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon that mounts the view",
		Long: `Mounts the view and serves it until SIGTERM or SIGINT. A dead view that a killed daemon left is
detached first. While nothing is mounted, the mount point is closed for everybody, so that mail is
deferred and never stored in the clear. Users that were unlocked before a restart of the daemon are
unlocked again. Another daemon of the same configuration that is just ending is waited for, up to
45 seconds.

SIGHUP (systemctl reload) reads the configuration again and takes over recovery and
recovery_recipients; everything else needs a restart.

The log goes to standard error. With systemd, readiness and a watchdog are reported; whether the view
answers is asked by a process of its own, mailcryptfs-probe.`,
		Example: `  mailcryptfs serve --check-config
  mailcryptfs serve --config /etc/mailcryptfs/mailcryptfs.toml`,
		Annotations: exits("0   SIGTERM or SIGINT ended it", "64  wrong arguments", "69  another daemon serves this configuration, or has not ended yet",
			"71  the system refused a mount or locked memory, or the view was unmounted from outside", "77  not root",
			"78  the configuration, the site secret or the store cannot work"),
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			if check {
				return a.checkConfig()
			}
			return a.serve(c, s)
		},
	}
	s = newSiteFlags(c)
	c.Flags().BoolVar(&check, "check-config", false, "judge the configuration file and change nothing")
	return c
}

// checkConfig judges what can be judged without keys and without changing anything.
func (a *app) checkConfig() error {
	c, err := a.config()
	if err != nil {
		return err
	}
	if err := checkLayout(a.configPath, c); err != nil {
		return err
	}
	if _, err := recoveryPolicyOf(a.configPath, c); err != nil {
		return err
	}
	return a.printf("%s: the configuration is good\n", a.configPath)
}

func checkLayout(path string, c config.Config) error {
	if err := layoutOf(c).Check(); err != nil {
		return ui.Failf(ui.ExitConfig, "correct "+ui.Quote(path)+", then: mailcryptfs serve --check-config", "%s: %w", path, err)
	}
	return nil
}

func layoutOf(c config.Config) fs.Layout {
	return fs.Layout{
		Profile: c.Profile, User: c.User, Private: c.Private, Meta: c.Meta,
		Names: c.Names, Delivery: c.Delivery, Unenrolled: c.Unenrolled, Plain: c.Plain,
	}
}

func (a *app) serve(c *cobra.Command, s *siteFlags) error {
	conf, err := a.config()
	if err != nil {
		return err
	}
	if err := checkLayout(a.configPath, conf); err != nil {
		return err
	}
	if err := mustBeRoot("mount a view for others"); err != nil {
		return err
	}
	log := newLog(a, conf.LogLevel)
	if err := prepareProcess(conf, log); err != nil {
		return err
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	return runDaemon(ctx, daemonOptions{path: a.configPath, config: conf, site: s, log: log, hangups: hangups})
}

func newLog(a *app, level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo // config.Validate has refused anything else
	}
	return slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: l, ReplaceAttr: withoutJournalTime}))
}

// withoutJournalTime drops the time where the journal adds its own (JOURNAL_STREAM, systemd.exec(5)).
func withoutJournalTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey && os.Getenv("JOURNAL_STREAM") != "" {
		return slog.Attr{}
	}
	return a
}
