package cyrus

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// site is a view with a Cyrus over it.
type site struct {
	*harness.Site
	*host
}

// options say how a site differs from a plain one.
type options struct {
	layout layout
	grace  time.Duration // until a user without sessions is locked; an hour when 0
	lines  string        // further lines of the configuration of mailcryptfs
	user   string        // where the partitions are; the view is one when empty
}

// newSite makes a view with a Cyrus over it, for users who are enrolled and locked.
func newSite(t testing.TB, o options, users ...string) *site {
	t.Helper()
	s := newSiteOf(t, o, users...)
	s.Enroll(t, users...)
	return s
}

// newSiteOf is newSite for users who have no key yet.
func newSiteOf(t testing.TB, o options, users ...string) *site {
	t.Helper()
	r := newRoot(t)
	if o.grace == 0 {
		o.grace = time.Hour
	}
	if o.user == "" {
		o.user = "%u"
	}
	r.own(t, "/run/cyrus/proc")
	must(t, os.Mkdir(r.path("/run/mailcryptfs"), 0o755))
	// Half an epoch is what Cyrus has to read again what it has just written.
	s := harness.New(t, harness.Options{Profile: "cyrus", User: o.user, Epoch: "8s", View: r.path(mail), Lines: fmt.Sprintf(
		"pam = %q\ncyrus_proc = %q\ngrace = %q\n%s", r.path("/run/mailcryptfs/pam.sock"), r.path("/run/cyrus/proc"), o.grace, o.lines)})
	s.Serve(t)
	for _, p := range o.layout.partitions() {
		r.own(t, p)
	}
	return &site{Site: s, host: r.start(t, o.layout, users...)}
}

// isMessage matches the name of a file with a message.
var isMessage = regexp.MustCompile(`^[0-9]+\.$`)

// message is one file with a message, below a directory of mail.
type message struct {
	path string
	user string // whose it is, by the name of its mailbox
}

var mailboxName = regexp.MustCompile(`N (\S+)`)

// messages are the files of a user's messages, scripts aside; of all users if the name is empty.
func (h *host) messages(t testing.TB, user string) (found []message) {
	t.Helper()
	must(t, filepath.WalkDir(h.path(mail), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !isMessage.MatchString(d.Name()) {
			return err
		}
		owner, script := h.ownerOf(t, filepath.Dir(path))
		if !script && (user == "" || owner == user) {
			found = append(found, message{path, owner})
		}
		return nil
	}))
	return found
}

// ownerOf tells from its header whose mailbox a directory is, and whether it holds Sieve scripts. A shared one is
// nobody's.
func (h *host) ownerOf(t testing.TB, dir string) (user string, script bool) {
	t.Helper()
	header, err := os.ReadFile(filepath.Join(dir, "cyrus.header"))
	must(t, err)
	m := mailboxName.FindStringSubmatch(string(header))
	if m == nil {
		t.Fatalf("%s: no name in %q", dir, header)
	}
	name, domain, _ := strings.Cut(m[1], "!")
	if domain != "" { // example.org!user.alice
		name, domain = domain, "@"+name
	}
	parts := strings.Split(name, ".")
	if parts[0] == "DELETED" {
		parts = parts[1:]
	}
	if len(parts) > 1 && parts[0] == "user" {
		user = strings.ReplaceAll(parts[1], "^", ".") + domain
	}
	return user, strings.Contains(name, "#sieve")
}

// unwrap is the error of the system beneath a path error.
func unwrap(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// sealed waits until no message of a locked user can be opened any more: the delivery keys are gone.
func (s *site) sealed(t testing.TB, user string) {
	t.Helper()
	all := s.messages(t, user)
	if len(all) == 0 {
		t.Fatalf("%s has no messages", user)
	}
	harness.Eventually(t, patience, "the messages of "+user+" are sealed", func() bool {
		for _, m := range all {
			f, err := os.Open(m.path)
			if err == nil {
				_ = f.Close()
				return false
			}
			if err := unwrap(err); err != unix.EACCES {
				t.Fatalf("%s: %v, want EACCES", m.path, err)
			}
		}
		return true
	})
}

// readable checks that every message of an unlocked user can be read.
func (s *site) readable(t testing.TB, user string) {
	t.Helper()
	for _, m := range s.messages(t, user) {
		if b, err := os.ReadFile(m.path); err != nil || !strings.Contains(string(b), "\r\n\r\n") {
			t.Errorf("%s of %s: %v, %d bytes", m.path, user, err, len(b))
		}
	}
}

// unlocked says whether a user is unlocked.
func (s *site) unlocked(t testing.TB, user string) bool {
	t.Helper()
	return s.Status(t, "--user", user)["unlocked"] == true
}

// prefix is that of the names of a user's folders other than INBOX.
const prefix = "INBOX."

// script gives a user the Sieve script.
func (h *host) script(t testing.TB, users ...string) {
	t.Helper()
	for _, u := range users {
		client.PutSieve(t, h.dial(t, "tcp", h.addr("sieve")), u, admin, adminPassword, client.NewSorted(prefix).Script())
	}
}
