package main

import (
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/fs"
	"github.com/mailcryptfs/mailcryptfs/keyring"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/session"
)

// openPIDs takes up the processes that were registered with an earlier daemon.
func openPIDs(c config.Config, log *slog.Logger) *session.PIDs {
	pids, err := session.OpenPIDs(filepath.Join(filepath.Dir(c.Control), "sessions"))
	if err != nil {
		log.Warn("cannot read which processes were registered as sessions", "err", err)
	}
	return pids
}

// newKeeper joins the sources that the configuration names. The more a source can say, the earlier it is asked.
func newKeeper(c config.Config, ring *keyring.Ring, pids *session.PIDs, conv *converter, v *fs.View, log *slog.Logger) *session.Keeper {
	var sources []session.Source
	if c.Anvil != "" {
		sources = append(sources, &session.Anvil{Path: c.Anvil})
	}
	if c.CyrusProc != "" {
		sources = append(sources, &session.Cyrus{Dir: c.CyrusProc})
	}
	sources = append(sources, pids, &session.Files{Use: v.Use, Idle: c.Idle, Now: time.Now})
	return session.New(session.Options{
		Sources: sources,
		Unlocked: func() []session.Unlocked {
			var all []session.Unlocked
			for _, s := range ring.Unlocked() {
				all = append(all, session.Unlocked{User: s.User, Since: s.Since, Used: s.Used})
			}
			return all
		},
		Lock:    func(u session.Unlocked, why string) (bool, error) { return ring.LockUnused(u.User, u.Used, why) },
		Pending: conv.pending,
		Grace:   c.Grace, Cap: c.SessionCap, Now: time.Now, Log: log,
	})
}

// keeperInterval is how often the sources are asked: often enough that the grace is kept, and no more often.
func keeperInterval(grace time.Duration) time.Duration {
	return min(max(grace/8, 200*time.Millisecond), 5*time.Second)
}

// problemsOf lists the sources that do not answer.
func problemsOf(k *session.Keeper) []string {
	var all []string
	for _, err := range k.Problems() {
		all = append(all, err.Error())
	}
	slices.Sort(all)
	return all
}

// stay adds to the status of an unlocked user why he is, and to any what is converted.
func (s *service) stay(st *control.UserStatus) {
	u := account.User(st.User)
	st.Conversion = s.converter.of(u)
	if !st.Unlocked {
		return
	}
	v := s.keeper.View(u)
	st.Because, st.LockAt = v.Because, known(v.LockAt)
}

func newRegister(a *app) *cobra.Command {
	var pid, peer int
	c := &cobra.Command{
		Use:   "register USER",
		Short: "Say that a process is a session of a user",
		Long: `Tells the daemon that a process is a session of the user: while it lives, the user stays unlocked if
he is, and when all such processes have ended and nothing else uses the mail, he is locked. It is
meant for post-login scripts of mail servers that cannot be asked who is logged in. It unlocks nobody.`,
		Example: `  mailcryptfs register alice@example.org --pid 4711
  mailcryptfs register "$USER" --peer-fd 3        in a post-login script of Dovecot`,
		Annotations: exits("64  wrong arguments", "66  there is no such process", "69  no daemon answers", "77  not root",
			"78  the configuration cannot work"),
		Args:              oneUser,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(c *cobra.Command, args []string) error { return a.register(c, args[0], pid, peer) },
	}
	c.Flags().IntVar(&pid, "pid", 0, "the process with the id `N`")
	c.Flags().IntVar(&peer, "peer-fd", -1, "the process at the other end of the unix socket that is open as descriptor `N`")
	return c
}

func (a *app) register(c *cobra.Command, user string, pid, peer int) error {
	if (pid == 0) == (peer < 0) {
		return ui.Failf(ui.ExitUsage, "mailcryptfs register --help", "give one of --pid and --peer-fd")
	}
	if peer >= 0 {
		cred, err := unix.GetsockoptUcred(peer, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return ui.Failf(ui.ExitUsage, "name the process with --pid", "descriptor %d is not a unix socket: %w", peer, err)
		}
		pid = int(cred.Pid)
	}
	client, err := a.client()
	if err != nil {
		return err
	}
	if err := client.Register(c.Context(), user, pid); err != nil {
		return explain(user, err)
	}
	return a.printf("process %s is a session of %s\n", strconv.Itoa(pid), ui.Safe(user))
}
