package dovecot

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// mailUID is vmail, user and group, whom the mail of all virtual users belongs to. Users of the system have the numbers
// from firstUID on.
const mailUID, firstUID = 5000, 3001

// patience is how long anything may take on a busy machine.
const patience = client.Patience

// grace is how long users of a test stay unlocked after their last session.
// It is long enough for a session to begin after its login on a busy machine.
const grace = 8 * time.Second

// options say how a Dovecot, and the site below it, differ from those of most tests.
type options struct {
	users    []string
	epoch    string // of delivery keys; 8s when empty: no test reads later than half of that what a locked user just got
	config   string // further lines of mailcryptfs.toml
	conf     string // further lines of Dovecot's configuration
	plugins  string // further plugins of Dovecot's
	system   bool   // users of the system, each with a uid of their own
	sdbox    bool
	register bool // sessions are registered by the post-login script, not asked of anvil
	auto     bool // users get their keys at the first login
	keep     bool // users stay unlocked without a session
	cached   bool // Dovecot remembers passwords
	chained  bool // Dovecot checks passwords itself, and then passes them to PAM
	docker   bool // as docker-mailserver sets Dovecot up
}

// host is a Dovecot that runs over one directory of mail.
type host struct {
	options
	dir     string // its sockets, configuration and log
	mail    string // one directory for each user
	m       *harness.Machine
	site    *harness.Site // nil on plain ext4
	mu      sync.Mutex
	keys    map[string]*client.IMAP // sessions that keep their users unlocked
	changed map[string]string       // passwords that are other than harness.Password
}

// prepare makes the directory of a Dovecot, so that its sockets are known before a daemon starts.
func prepare(t testing.TB, o options) *host {
	t.Helper()
	return &host{options: o, dir: harness.Dir(t), keys: map[string]*client.IMAP{}, changed: map[string]string{}}
}

// start runs Dovecot over a directory of mail until the test ends. Users log in with harness.Password.
func (h *host) start(t testing.TB, mail string) {
	t.Helper()
	h.mail = mail
	h.m = harness.NewMachine(t, mail, h.site)
	h.m.AddUser(t, "vmail", mailUID, "/nonexistent", "")
	h.m.WriteFile(t, "/etc/dovecot/masters", "master:{PLAIN}pw\n")
	if h.system {
		for i, u := range h.users {
			h.m.AddUser(t, u, firstUID+i, "/home/"+u, h.passwordOf(u))
		}
	} else {
		h.setPasswords(t)
	}
	must(t, os.WriteFile(h.logPath(), nil, 0o666))
	must(t, os.Chmod(h.logPath(), 0o666))
	h.m.WriteFile(t, "/etc/dovecot/dovecot.conf", h.configuration(t))
	h.m.Serve(t, "dovecot", "-F")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("dovecot over %s: %s", mail, strings.Join(h.complaints(t), "\n"))
		}
	})
	harness.Eventually(t, patience, "dovecot listens", func() bool {
		for _, socket := range []string{"lmtp", "imap", "pop3"} {
			if _, err := os.Stat(h.socket(socket)); err != nil {
				return false
			}
		}
		return true
	})
}

// setPasswords says who there is, and who can log in by which password.
func (h *host) setPasswords(t testing.TB) {
	t.Helper()
	all, lines := map[string]string{}, ""
	for _, u := range h.users {
		all[u] = h.passwordOf(u)
		password := ""
		if h.chained || h.docker {
			password = "{PLAIN}" + h.passwordOf(u)
		}
		lines += u + ":" + password + ":::::\n"
	}
	h.m.WriteFile(t, "/etc/dovecot/users", lines)
	h.m.Passwords(t, all)
}

// byDomain says whether users have a domain, and so directories below that of the domain.
func (h *host) byDomain() bool { return strings.Contains(h.users[0], "@") }

// homeOf is the directory of a user.
func (h *host) homeOf(user string) string {
	if local, domain, found := strings.Cut(user, "@"); found {
		return filepath.Join(h.mail, domain, local)
	}
	return filepath.Join(h.mail, user)
}

func (h *host) socket(name string) string { return filepath.Join(h.dir, "run", name) }

func (h *host) logPath() string { return filepath.Join(h.dir, "log") }

func (h *host) log(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(h.logPath())
	must(t, err)
	return string(b)
}

// homes makes the directories of all users below a directory of mail.
func (h *host) homes(t testing.TB, mail string) {
	t.Helper()
	h.mail = mail
	for i, u := range h.users {
		uid := mailUID
		if h.system {
			uid = firstUID + i
		}
		h.home(t, u, uid)
	}
}

// home makes the directory of a user, with a Sieve script.
func (h *host) home(t testing.TB, user string, uid int) {
	t.Helper()
	home := h.homeOf(user)
	script := filepath.Join(home, ".dovecot.sieve")
	must(t, os.MkdirAll(filepath.Dir(home), 0o755))
	must(t, os.Mkdir(home, 0o700))
	must(t, os.WriteFile(script, []byte(client.NewSorted("").Script()), 0o600))
	must(t, os.Chown(script, uid, uid))
	must(t, os.Chown(home, uid, uid))
}

// newSite is a view with users who have keys and are locked, and a Dovecot over it. Logins unlock users, and they are
// locked when their sessions are over.
func newSite(t testing.TB, o options) (*harness.Site, *host) {
	t.Helper()
	h := prepare(t, o)
	site := harness.Options{Profile: "dovecot-maildir", User: "%u", Epoch: cmp.Or(h.epoch, "8s")}
	if h.sdbox {
		site.Profile = "dovecot-sdbox"
	}
	if h.byDomain() {
		site.User = "%d/%n"
	}
	h.site = harness.New(t, site)
	lines := fmt.Sprintf("recovery = \"none\"\ngrace = %q\n", grace)
	switch {
	case h.keep:
		lines = "grace = \"1h\"\n"
	case !h.register:
		lines += fmt.Sprintf("anvil = %q\n", h.socket("anvil"))
	}
	if h.auto {
		lines += "enroll = \"auto\"\n"
	}
	appendTo(t, h.site.Config, lines+o.config)
	h.site.Serve(t)
	if !h.auto {
		h.site.Enroll(t, h.users...)
	}
	h.homes(t, h.site.View)
	h.start(t, h.site.View)
	return h.site, h
}

// newPlain is a Dovecot over plain ext4.
func newPlain(t testing.TB, o options) *host {
	t.Helper()
	h := prepare(t, o)
	dir, _ := harness.Image{}.Mounted(t)
	h.homes(t, dir)
	h.start(t, dir)
	return h
}

func appendTo(t testing.TB, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(text)
	must(t, err)
	must(t, f.Close())
}

// isUnlocked says whether a user is unlocked.
func (h *host) isUnlocked(t testing.TB, user string) bool {
	t.Helper()
	return h.site.Status(t, "--user", user)["unlocked"] == true
}

// unlock logs users in, and keeps their sessions.
func (h *host) unlock(t testing.TB, users ...string) {
	t.Helper()
	for _, u := range users {
		c := h.enter(t, u)
		if h.site != nil && !h.isUnlocked(t, u) {
			t.Fatalf("%s is locked after a login", u)
		}
		h.mu.Lock()
		h.keys[u] = c
		h.mu.Unlock()
	}
}

// lock logs users out and waits until that has locked them.
func (h *host) lock(t testing.TB, users ...string) {
	t.Helper()
	for _, u := range users {
		h.mu.Lock()
		must(t, h.keys[u].Logout())
		delete(h.keys, u)
		h.mu.Unlock()
		if h.site == nil {
			continue
		}
		harness.Eventually(t, patience, u+" is locked after the logout", func() bool { return !h.isUnlocked(t, u) })
	}
}

// messages are the files of messages below a directory of mail, and what else lies in the maildirs' three directories.
func messages(t testing.TB, home string) (paths []string) {
	t.Helper()
	must(t, filepath.WalkDir(home, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			switch filepath.Base(filepath.Dir(path)) {
			case "cur", "new", "tmp":
				paths = append(paths, path)
			case "dbox-Mails":
				if strings.HasPrefix(d.Name(), "u.") || strings.HasPrefix(d.Name(), ".temp") {
					paths = append(paths, path)
				}
			}
		}
		return err
	}))
	return paths
}

// sealed waits until no message of a locked user can be opened any more: the delivery keys are gone.
func (h *host) sealed(t testing.TB, user string) {
	t.Helper()
	all := messages(t, h.homeOf(user))
	if len(all) == 0 {
		t.Fatalf("%s has no messages", user)
	}
	harness.Eventually(t, patience, "the messages of "+user+" are sealed", func() bool {
		for _, path := range all {
			f, err := os.Open(path)
			if err == nil {
				_ = f.Close()
				return false
			}
			if err := unwrap(err); err != unix.EACCES {
				t.Fatalf("%s: %v, want EACCES", path, err)
			}
		}
		return true
	})
}
