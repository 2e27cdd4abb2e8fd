package postfix

import (
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, nil)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// vmail is whom the mail of virtual users belongs to; users of the system have numbers of their own.
const vmail, firstUID = 5000, 3001

// patience is how long anything may take on a busy machine.
const patience = 60 * time.Second

// base is what an instance of Postfix needs beside the files that are shipped. Mail is tried again soon.
const base = `compatibility_level = 3.6
myhostname = mx.example.org
mydestination = localhost
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
maillog_file_prefixes = /run
maillog_file = /run/mail.log
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions =
queue_run_delay = 2s
minimal_backoff_time = 3s
maximal_backoff_time = 3s
`

// way is one of the ways in which Postfix delivers.
type way struct {
	name    string
	system  bool              // users of the system, each with a uid of their own
	master  string            // what is added to master.cf
	files   map[string]string // files that are shipped, and where they belong
	filters bool
}

var ways = []way{
	{name: "virtual"},
	{name: "local", system: true, master: "master.cf.local"},
	{name: "maildrop", master: "master.cf.maildrop", files: map[string]string{"maildroprc": "/etc/maildroprc.view"}, filters: true},
	{name: "procmail", system: true, master: "master.cf.local", files: map[string]string{"procmailrc": "/etc/procmailrc"}},
}

// host is a Postfix that runs over a view.
type host struct {
	way
	site  *harness.Site
	m     *harness.Machine
	users []string
	addr  string // of its SMTP server
}

// start makes a site with locked users and runs Postfix over it.
func start(t testing.TB, w way, users ...string) *host {
	t.Helper()
	template := "%u"
	if !w.system {
		template = "%d/%n"
	}
	h := &host{way: w, users: users, site: harness.Start(t, harness.Options{Profile: "maildir", User: template, Epoch: "1s"})}
	h.site.Enroll(t, users...)
	h.m = harness.NewMachine(t, h.site.View, h.site, "/var/spool/postfix", "/var/lib/postfix", "/var/mail", "/home")
	h.m.AddUser(t, "vmail", vmail, "/nonexistent", "")
	h.homes(t)
	h.configure(t)
	h.m.Serve(t, "postfix", "start-fg")
	// master(8) makes a session of its own, out of reach of who started it.
	t.Cleanup(func() { h.m.Run(t, "postfix", "stop") })
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("postfix: %s", h.log(t))
		}
	})
	harness.Eventually(t, patience, "postfix listens", func() bool {
		c, err := net.Dial("tcp", h.addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return h
}

// homes makes the maildirs of all users, and for users of the system what else they need.
func (h *host) homes(t testing.TB) {
	t.Helper()
	var boxes strings.Builder
	for i, u := range h.users {
		uid := vmail
		if h.system {
			uid = firstUID + i
			h.m.AddUser(t, u, uid, "/home/"+u, "")
			must(t, os.Mkdir(h.m.Path("/home/"+u), 0o700))
			must(t, os.Chown(h.m.Path("/home/"+u), uid, uid))
		}
		fmt.Fprintf(&boxes, "%s %s/\n", u, h.boxOf(u))
		makeBox(t, filepath.Join(h.site.View, h.boxOf(u)), uid)
	}
	if !h.system {
		h.m.WriteFile(t, "/etc/postfix/vmailbox", boxes.String())
	}
}

// makeBox makes a maildir with one further folder.
func makeBox(t testing.TB, box string, uid int) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(box), 0o755))
	for _, folder := range []string{"", ".Work"} {
		for _, dir := range []string{"cur", "new", "tmp"} {
			must(t, os.MkdirAll(filepath.Join(box, folder, dir), 0o700))
		}
	}
	harness.Run(t, "chown", "-R", fmt.Sprintf("%d:%d", uid, uid), box)
}

// boxOf is the maildir of a user, below the view.
func (h *host) boxOf(user string) string {
	if local, domain, found := strings.Cut(user, "@"); found {
		return domain + "/" + local
	}
	return user
}

// configure installs the files that are shipped, and gives the SMTP server an address of its own.
func (h *host) configure(t testing.TB) {
	t.Helper()
	h.addr = harness.Loopback() + ":31025"
	shipped := func(name string) string {
		text, err := os.ReadFile("../../contrib/postfix/" + name)
		must(t, err)
		return string(text)
	}
	h.m.WriteFile(t, "/etc/postfix/main.cf", base+shipped("main.cf."+h.name))
	master, err := os.ReadFile(h.m.Path("/etc/postfix/master.cf"))
	must(t, err)
	text := strings.Replace(string(master), "\nsmtp      inet", "\n"+h.addr+" inet", 1)
	if h.master != "" { // an entry, in the place of one that may be there
		if h.system {
			text = regexp.MustCompile(`(?m)^local +unix.*\n`).ReplaceAllString(text, "")
		}
		text += shipped(h.master)
	}
	h.m.WriteFile(t, "/etc/postfix/master.cf", text)
	for name, path := range h.files {
		h.m.Install(t, "contrib/postfix/"+name, path)
		if !h.system { // a filter that runs as vmail, and has to be that user's
			must(t, os.Chown(h.m.Path(path), vmail, vmail))
			must(t, os.Chmod(h.m.Path(path), 0o600))
		}
	}
}

func (h *host) log(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(h.m.Path("/run/mail.log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

// send gives Postfix one message for all users.
func (h *host) send(t testing.TB, subject string, lines int) {
	t.Helper()
	to := make([]string, len(h.users))
	for i, u := range h.users {
		to[i] = u
		if h.system {
			to[i] += "@localhost"
		}
	}
	if err := smtp.SendMail(h.addr, nil, "sender@example.net", to, []byte(message(subject, lines))); err != nil {
		t.Errorf("SMTP: %v", err)
	}
}

func message(subject string, lines int) string {
	var text strings.Builder
	fmt.Fprintf(&text, "From: Sender <sender@example.net>\r\nTo: list@example.org\r\nSubject: %s\r\n\r\nThis is the text of %s.\r\n", subject, subject)
	for i := range lines {
		fmt.Fprintf(&text, "line %d of %s\r\n", i, subject)
	}
	return text.String()
}

// files are the messages in a maildir, and what else lies in its directories.
func files(t testing.TB, box string) (paths []string) {
	t.Helper()
	must(t, filepath.WalkDir(box, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			switch filepath.Base(filepath.Dir(path)) {
			case "cur", "new", "tmp":
				paths = append(paths, path)
			}
		}
		return err
	}))
	return paths
}

// await waits until every user has n messages, and Postfix knows.
func (h *host) await(t testing.TB, n int) {
	t.Helper()
	for _, u := range h.users {
		harness.Eventually(t, patience, fmt.Sprintf("%s has %d messages", u, n), func() bool {
			done := 0
			for _, path := range files(t, filepath.Join(h.site.View, h.boxOf(u))) {
				if filepath.Base(filepath.Dir(path)) != "tmp" {
					done++
				}
			}
			return done >= n
		})
	}
	harness.Eventually(t, patience, "the queue is empty", func() bool { return h.m.Run(t, "postqueue", "-j") == "" })
}

// TestDelivery delivers to a locked and to an unlocked user: one after the other, a large message, and 20 at once. Every
// message arrives once, whole, and where it belongs, and those of the locked user cannot be read.
func TestDelivery(t *testing.T) {
	t.Parallel()
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			users := []string{"locked", "unlocked"}
			if !w.system {
				users = []string{"locked@example.org", "unlocked@example.org"}
			}
			h := start(t, w, users...)
			h.site.Unlock(t, users[1])
			want := map[string]int{"one": 3, "large": 20000, "to-work": 5}
			for subject, lines := range want {
				h.send(t, subject, lines)
			}
			var all sync.WaitGroup
			for i := range 20 {
				subject := fmt.Sprintf("parallel-%d", i)
				want[subject] = 10 * i
				all.Go(func() { h.send(t, subject, 10*i) })
			}
			all.Wait()
			h.await(t, len(want))
			h.sealed(t, users[0])
			h.site.Unlock(t, users[0])
			for _, u := range users {
				h.arrived(t, u, want)
			}
			h.judge(t)
		})
	}
}

// sealed waits until no message of a locked user can be opened any more.
func (h *host) sealed(t testing.TB, user string) {
	t.Helper()
	for _, path := range files(t, filepath.Join(h.site.View, h.boxOf(user))) {
		harness.Eventually(t, patience, path+" is sealed", func() bool {
			f, err := os.Open(path)
			if err == nil {
				_ = f.Close()
			}
			return errors.Is(err, unix.EACCES)
		})
	}
}

// arrived checks that an unlocked user has each message once, whole, in its folder, and nothing else.
func (h *host) arrived(t testing.TB, user string, want map[string]int) {
	t.Helper()
	got := map[string]int{}
	box := filepath.Join(h.site.View, h.boxOf(user))
	for _, path := range files(t, box) {
		b, err := os.ReadFile(path)
		must(t, err)
		_, rest, _ := strings.Cut(string(b), "Subject: ")
		subject, _, _ := strings.Cut(rest, "\n")
		got[subject]++
		_, body, _ := strings.Cut(strings.ReplaceAll(message(subject, want[subject]), "\r\n", "\n"), "\n\n")
		if !strings.HasSuffix(strings.TrimSuffix(string(b), "\n")+"\n", "\n\n"+body) {
			t.Errorf("%s: %q is damaged: %.300q", user, subject, b)
		}
		folder, _ := filepath.Rel(box, filepath.Dir(filepath.Dir(path)))
		if filed := folder == ".Work"; filed != (h.filters && subject == "to-work") || filepath.Base(filepath.Dir(path)) != "new" {
			t.Errorf("%s: %q is in %s", user, subject, filepath.Dir(path))
		}
	}
	for subject := range want {
		if got[subject] != 1 {
			t.Errorf("%s: %q: %d times", user, subject, got[subject])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d subjects, want %d", user, len(got), len(want))
	}
}

// judge fails the test for what Postfix should not have to say: that mail went back, or was left lying.
func (h *host) judge(t testing.TB) {
	t.Helper()
	for _, word := range []string{"status=bounced", "status=deferred", "warning:", "fatal:", "panic:", "error:"} {
		if log := h.log(t); strings.Contains(log, word) {
			t.Errorf("postfix says %q", word)
		}
	}
}

// TestOutage sends mail while the daemon is dead, and while nothing is mounted: it waits in the queue, is stored nowhere
// else, and is delivered when the daemon is back, by nobody's doing.
func TestOutage(t *testing.T) {
	t.Parallel()
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			user := "alice"
			if !w.system {
				user = "alice@example.org"
			}
			h := start(t, w, user)
			want := map[string]int{"before": 3, "dead": 3, "unmounted": 3}
			h.send(t, "before", 3)
			h.await(t, 1)
			h.site.Kill(t)
			h.send(t, "dead", 3)
			h.waiting(t, 1)
			must(t, unix.Unmount(h.site.View, unix.MNT_DETACH))
			h.send(t, "unmounted", 3)
			h.waiting(t, 2)
			if entries, err := os.ReadDir(h.site.View); err != nil || len(entries) > 0 {
				t.Errorf("beneath the mount point: %v %v", entries, err)
			}
			if found := harness.FindClear(t, []string{"This is the text"}, h.m.Path("/var/mail"), h.m.Path("/home")); len(found) > 0 {
				t.Errorf("stored elsewhere: %q", found)
			}
			h.site.Serve(t)
			h.await(t, len(want))
			h.site.Unlock(t, user)
			h.arrived(t, user, want)
			if strings.Contains(h.log(t), "status=bounced") {
				t.Error("mail was bounced")
			}
		})
	}
}

// waiting waits until n messages lie in the queue and all of them have been tried.
func (h *host) waiting(t testing.TB, n int) {
	t.Helper()
	harness.Eventually(t, patience, fmt.Sprintf("%d messages are deferred", n), func() bool {
		queue := h.m.Run(t, "postqueue", "-j")
		return strings.Count(queue, `"delay_reason"`) == n
	})
}
