package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/leaktest"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/fs/offline"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

func newLeaktest(a *app) *cobra.Command {
	l := &leaktestVerb{app: a}
	c := &cobra.Command{
		Use:   "leaktest USER | leaktest --resume FILE",
		Short: "Plant a message and look for its text where it must not be",
		Long: `Delivers messages with random markers in body, subject, sender, attachment and the name of a folder
into the user's mail, through the view and with the owner of the user's directory, as a delivery agent
does. Then it searches every byte of the store, the keyring directory, the directories of temporary
files (/tmp or TMPDIR, /var/tmp, Dovecot's mail_temp_dir), of what is given with --dir, and with
--device of raw devices, for the markers: as they are, in upper case, in UTF-16, quoted-printable,
hexadecimal, and in base64 at each alignment; in names and extended attributes too. It says what it
found where, and removes the messages. Compressed copies, swap space and memory are not searched.

With --keep the messages stay until --resume, which searches again and removes them. What happens in
between is tested too: that the mail server indexes the messages, or that the user is unlocked and
what was delivered in plain text is encrypted. The file holds the markers: put it on a tmpfs that is
not searched.

With delivery = "plaintext", or unenrolled = "plaintext", messages for a user who is locked are found
in the store, as configured; after an unlock they must be gone. On a raw device their old blocks stay
until something else is written there.`,
		Example: `  mailcryptfs leaktest alice@example.org
  mailcryptfs leaktest alice@example.org --device /dev/vdb1 --dir /var/cache/dovecot
  mailcryptfs leaktest alice@example.org --keep /run/leaktest
  mailcryptfs leaktest --resume /run/leaktest --json`,
		Annotations: exits("0   nothing was found", "64  wrong arguments", "65  a marker was found", "66  the user has no mail, or a file is not there",
			"69  the view is not mounted", "73  the file of --keep exists already", "74  something could not be written, read or removed",
			"75  it was interrupted", "77  not root", "78  the configuration or the site secret cannot work"),
		Args:              l.args,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(c *cobra.Command, args []string) error { return l.run(c.Context(), args) },
	}
	c.Flags().StringArrayVar(&l.devices, "device", nil, "search this `device` or image too; may be given several times")
	c.Flags().StringArrayVar(&l.dirs, "dir", nil, "search this `directory` too, for example one of indexes; may be given several times")
	c.Flags().StringVar(&l.keep, "keep", "", "leave the messages, and write to this new `file` what --resume needs")
	c.Flags().StringVar(&l.resume, "resume", "", "search for the messages of a test with --keep, and remove them")
	c.Flags().BoolVar(&l.asJSON, "json", false, "print one JSON object")
	return c
}

// leaktestVerb is one run of the verb.
type leaktestVerb struct {
	*app
	devices, dirs []string
	keep, resume  string
	asJSON        bool
	tty           bool
}

// kept is what lies in the file of --keep.
type kept struct {
	User    string            `json:"user"`
	Markers []leaktest.Marker `json:"markers"`
	Planted *leaktest.Planted `json:"planted"`
}

// leaks is the stable answer of leaktest --json.
type leaks struct {
	User     string            `json:"user"`
	Found    []leaktest.Hit    `json:"found"`
	Searched leaktest.Searched `json:"searched"`
	Places   []string          `json:"places"`
}

func (l *leaktestVerb) args(c *cobra.Command, args []string) error {
	switch {
	case l.resume != "" && (len(args) > 0 || l.keep != ""):
		return ui.Failf(ui.ExitUsage, c.CommandPath()+" --help", "--resume takes neither a user nor --keep")
	case l.resume != "":
		return nil
	}
	return oneUser(c, args)
}

func (l *leaktestVerb) run(ctx context.Context, args []string) error {
	c, err := l.config()
	if err != nil {
		return err
	}
	if err := mustBeRoot("search all files"); err != nil {
		return err
	}
	if err := secret.Harden(); err != nil {
		return ui.Fail(ui.ExitOSErr, "", err)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := l.mounted(c); err != nil {
		return err
	}
	var k *kept
	if l.resume != "" {
		k, err = l.readKept()
	} else {
		k, err = l.plant(c, account.User(args[0]))
	}
	if err != nil {
		return err
	}
	searched, err := l.search(ctx, c, k)
	l.clear()
	// Whatever happened: mail of the test does not stay, unless that was asked for and can be undone.
	if l.keep == "" || err != nil {
		err = errors.Join(err, l.remove(k))
	}
	if err != nil {
		return leaktestProblem(ctx, err)
	}
	return l.tell(c, k, searched)
}

// mounted makes sure that what is planted is encrypted at all.
func (l *leaktestVerb) mounted(c config.Config) error {
	var st unix.Statfs_t
	const fuse = 0x65735546 // FUSE_SUPER_MAGIC of linux/magic.h
	if err := unix.Statfs(c.View, &st); err != nil || st.Type != fuse {
		return ui.Failf(ui.ExitUnavailable, "systemctl start mailcryptfs", "the view is not mounted on %s", c.View)
	}
	return nil
}

// plant delivers the messages, and notes the test in the audit log.
func (l *leaktestVerb) plant(c config.Config, u account.User) (*kept, error) {
	keys, err := loadSite(c)
	if err != nil {
		return nil, err
	}
	defer keys.Wipe()
	root, err := l.userRoot(c, keys, u)
	if err != nil {
		return nil, err
	}
	k := &kept{User: string(u), Markers: leaktest.NewMarkers()}
	message, err := leaktest.Message(k.Markers, time.Now())
	if err != nil {
		return nil, err
	}
	var file *os.File
	if l.keep != "" {
		if file, err = os.OpenFile(l.keep, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return nil, ui.Fail(ui.ExitCantCreate, "name a new file with --keep", err)
		}
		defer file.Close()
	}
	l.note(c, keys, u)
	if k.Planted, err = leaktest.Plant(root, c.Profile, k.Markers, message); err == nil && file != nil {
		err = json.NewEncoder(file).Encode(k)
	}
	if err != nil {
		return nil, ui.Fail(ui.ExitIOErr, "", fmt.Errorf("cannot deliver a message: %w", errors.Join(err, k.Planted.Remove())))
	}
	return k, nil
}

// userRoot returns the user's directory in the view.
func (l *leaktestVerb) userRoot(c config.Config, keys *site.Keys, u account.User) (string, error) {
	store, err := offline.Open(offline.Options{
		Store: c.Store, Site: keys, Keys: noKeys{}, Profile: c.Profile, UserPath: c.User, Private: c.Private, Meta: c.Meta,
	})
	if err != nil {
		return "", ui.Fail(ui.ExitIOErr, "", err)
	}
	defer store.Close()
	places, err := store.Places(u)
	if err != nil {
		return "", ui.Fail(ui.ExitIOErr, "", err)
	}
	for _, p := range places {
		root := filepath.Join(append([]string{c.View}, p...)...)
		if st, err := os.Stat(root); err == nil && st.IsDir() {
			return root, nil
		}
	}
	return "", ui.Failf(ui.ExitNoInput, "deliver a message to the user first", "%s has no mail in the view", ui.Safe(string(u)))
}

// noKeys opens nothing.
type noKeys struct{}

func (noKeys) OpeningKey(account.User, secret.ID) (*secret.Key, error) { return nil, secret.ErrLocked }

func (l *leaktestVerb) note(c config.Config, keys *site.Keys, u account.User) {
	log, err := audit.Open(c.Store, keys, slog.New(slog.DiscardHandler))
	if err == nil {
		err = errors.Join(log.Append(audit.Event{User: u, What: audit.Leaktest, By: callerName()}), log.Close())
	}
	if err != nil {
		l.warn("the audit log does not tell of this test: %v", err)
	}
}

func (l *leaktestVerb) readKept() (*kept, error) {
	b, err := os.ReadFile(l.resume)
	if err != nil {
		return nil, ui.Fail(ui.ExitNoInput, "", err)
	}
	k := &kept{}
	if err := json.Unmarshal(b, k); err != nil || len(k.Markers) == 0 || k.Planted == nil {
		return nil, ui.Failf(ui.ExitNoInput, "", "%s is not a file that leaktest --keep has written", l.resume)
	}
	return k, nil
}

// places are the directories that are searched.
func (l *leaktestVerb) places(ctx context.Context, c config.Config) []string {
	all := append([]string{c.Store, c.Keyring, os.TempDir(), "/var/tmp"}, l.dirs...)
	// Without Dovecot there is no such directory.
	if out, err := exec.CommandContext(ctx, "doveconf", "-h", "mail_temp_dir").Output(); err == nil {
		all = append(all, strings.TrimSpace(string(out)))
	}
	var out []string
	for _, dir := range all {
		if dir = filepath.Clean(dir); filepath.IsAbs(dir) && !slices.Contains(out, dir) {
			out = append(out, dir)
		}
	}
	return out
}

func (l *leaktestVerb) search(ctx context.Context, c config.Config, k *kept) (leaks, error) {
	unix.Sync() // raw devices show what has been written back
	answer := leaks{User: k.User, Found: []leaktest.Hit{}, Places: l.places(ctx, c)}
	w := &leaktest.Walk{Searcher: leaktest.NewSearcher(k.Markers), Skip: []string{c.View}, Progress: l.progress(), Hit: func(h leaktest.Hit) {
		if ours := l.keep + l.resume; ours == "" || h.Where != ours {
			answer.Found = append(answer.Found, h)
		}
	}}
	for _, dir := range answer.Places {
		if err := w.Tree(ctx, dir); err != nil {
			return answer, err
		}
	}
	for _, device := range l.devices {
		answer.Places = append(answer.Places, device)
		if err := w.Device(ctx, device); err != nil {
			return answer, fmt.Errorf("cannot search %s: %w", device, err)
		}
	}
	answer.Searched = w.Searched
	return answer, nil
}

func (l *leaktestVerb) remove(k *kept) error {
	err := k.Planted.Remove()
	if err != nil {
		return fmt.Errorf("cannot remove a message of the test: %w", err)
	}
	for _, file := range []string{l.keep, l.resume} {
		if file != "" {
			err = errors.Join(err, os.Remove(file))
		}
	}
	return err
}
