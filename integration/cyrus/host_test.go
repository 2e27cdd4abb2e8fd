package cyrus

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

func TestMain(m *testing.M) {
	harness.OneMore()
	os.Exit(harness.Main(m, harness.Procs{"reap": reap}))
}

// patience is how long anything may take on a busy machine.
const patience = client.Patience

// The administrator, who may act for everybody and has no key.
const admin, adminPassword = "cyrus", "admin's own"

// mail is where the partition lies, in the root: the path in the shipped configuration.
const mail = "/srv/mail"

// sieveDir is where compiled scripts lie, there too.
const sieveDir = mail + "/.sieve"

// shipped is where the configuration lies that the tests run.
const shipped = "../../contrib"

// more is what the tests need beside it.
const more = `
proxyservers: cyrus
sieve_proxyservers: cyrus
allowusermoves: yes
`

// layout says which directories Cyrus makes for its mailboxes.
type layout string

const (
	legacy layout = "legacy" // user/alice, with hash directories
	uuid   layout = "uuid"   // one directory for each mailbox, without the user's name
	domain layout = "domain" // legacy, with users of several domains
	two    layout = "two"    // legacy, with two partitions below the view
)

// partitions are the paths of the partitions.
func (l layout) partitions() []string {
	if l == two {
		return []string{mail, mail + "/default", mail + "/second"}
	}
	return []string{mail}
}

var legacyDirs = regexp.MustCompile(`(?m)^mailbox_legacy_dirs: yes$`)

// conf is the shipped imapd.conf as this layout has it.
func (l layout) conf(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(shipped + "/cyrus/imapd.conf.example")
	must(t, err)
	if !legacyDirs.Match(b) {
		t.Fatal("mailbox_legacy_dirs: not found")
	}
	switch l {
	case uuid:
		b = legacyDirs.ReplaceAll(b, []byte("mailbox_legacy_dirs: no"))
	case domain:
		b = append(b, "virtdomains: userid\n"...)
		b = bytes.Replace(b, []byte("unixhierarchysep: no"), []byte("unixhierarchysep: yes"), 1)
	case two:
		one := []byte("partition-default: " + mail)
		b = bytes.Replace(b, append(one, '\n'), fmt.Appendf(one, "/default\npartition-second: %s/second\n", mail), 1)
	}
	return string(b) + more
}

// ports are those of the services, none of which this machine may use for others on all its addresses.
var ports = map[string]int{"imap": 31143, "pop3": 31110, "sieve": 34190}

// host is a Cyrus that runs.
type host struct {
	*root
	ip     string
	syslog *harness.Journal
	sep    string // between the parts of a mailbox name
}

// start runs Cyrus and saslauthd in a root until the test ends, with a directory of mail that is there. Every user gets a
// mailbox, and the password that the harness has for users.
func (r *root) start(t testing.TB, l layout, users ...string) *host {
	t.Helper()
	h := &host{root: r, ip: harness.Loopback(), syslog: new(harness.Journal), sep: "."}
	saslauthd := []string{"saslauthd", "-d", "-a", "pam", "-n", "2", "-m", "/run/saslauthd"}
	if l == domain {
		h.sep, saslauthd = "/", append(saslauthd, "-r")
	}
	r.own(t, "/run/cyrus", "/run/cyrus/socket", "/run/cyrus/proc", "/run/cyrus/lock", mail, sieveDir)
	services := ""
	for name, port := range ports {
		services += fmt.Sprintf("%s %d/tcp\n", name, port)
	}
	r.write(t, "/etc/services", services)
	r.write(t, "/etc/hosts", h.ip+" localhost\n")
	r.write(t, "/etc/imapd.conf", l.conf(t))
	harness.Run(t, "install", "-m", "0644", shipped+"/cyrus/cyrus.conf.example", r.path("/etc/cyrus.conf"))
	for _, service := range []string{"imap", "pop", "sieve"} {
		harness.Run(t, "install", "-m", "0644", shipped+"/pam-configs/pam.d/"+service, r.path("/etc/pam.d"))
	}
	secrets := map[string]string{admin: adminPassword}
	for _, u := range users {
		secrets[u] = string(harness.Password(u))
	}
	r.passwords(t, secrets)
	h.listen(t)
	reaper := harness.Spawn(t, "reap", r.dir)
	reaper.Expect(t, "ready")
	t.Cleanup(func() { reaper.Wait(t) })
	must(t, os.MkdirAll(r.path("/run/saslauthd"), 0o755))
	h.server(t, saslauthd...)
	h.server(t, "/usr/sbin/cyrmaster", "-D", "-C", "/etc/imapd.conf", "-M", "/etc/cyrus.conf")
	harness.Eventually(t, patience, "Cyrus listens", func() bool {
		for _, path := range []string{"/run/cyrus/socket/lmtp", "/run/cyrus/socket/idle", "/run/saslauthd/mux"} {
			if _, err := os.Stat(r.path(path)); err != nil {
				return false
			}
		}
		conn, err := net.Dial("tcp", h.addr("sieve"))
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	c := h.admin(t)
	defer c.Close()
	for _, u := range users {
		c.OK(t, "CREATE %s", "user"+h.sep+u)
	}
	return h
}

// listen takes what programs of the root write to syslog.
func (h *host) listen(t testing.TB) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("syslog of %s:\n%s", h.dir, debugging.ReplaceAllString(h.syslog.String(), ""))
		}
	})
	h.syslog.Listen(t, h.path("/dev/log"))
}

// debugging matches the lines of saslauthd that say nothing.
var debugging = regexp.MustCompile(`(?m)^<39>.*saslauthd\[.*\n`)

// server runs a program of the root until the test ends, with everything that it starts.
func (h *host) server(t testing.TB, argv ...string) {
	t.Helper()
	cmd := h.command(t, argv...)
	var out harness.Journal
	cmd.Stdout = &out // saslauthd writes the same to stderr and to syslog
	if argv[0] != "saslauthd" {
		cmd.Stderr = &out
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 10 * time.Second
	must(t, cmd.Start())
	t.Cleanup(func() {
		group := -cmd.Process.Pid
		_ = syscall.Kill(group, syscall.SIGTERM)
		timer := time.AfterFunc(10*time.Second, func() { _ = syscall.Kill(group, syscall.SIGKILL) })
		defer timer.Stop()
		_ = cmd.Wait()
		_ = syscall.Kill(group, syscall.SIGKILL)
		if t.Failed() {
			t.Logf("%s:\n%s", argv[0], out.String())
		}
	})
}

func (h *host) addr(service string) string { return fmt.Sprintf("%s:%d", h.ip, ports[service]) }

func (h *host) dial(t testing.TB, network, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial(network, address)
	must(t, err)
	return conn
}

// connect opens an IMAP connection without logging in.
func (h *host) connect(t testing.TB) *client.IMAP {
	t.Helper()
	return client.NewIMAP(t, h.dial(t, "tcp", h.addr("imap")))
}

// login logs in with the user's password, which unlocks a user who is enrolled.
func (h *host) login(t testing.TB, user string) *client.IMAP {
	t.Helper()
	c := h.connect(t)
	if answer, ok := c.Login(user, string(harness.Password(user))); !ok {
		t.Fatalf("the login of %s: %q", user, answer)
	}
	return c
}

// enter begins a session of a user without the user's password, by that of the administrator: it unlocks nobody.
func (h *host) enter(t testing.TB, user string) *client.IMAP {
	t.Helper()
	c := h.connect(t)
	if answer, ok := c.LoginAs(user, admin, adminPassword); !ok {
		t.Fatalf("the session of %s: %q", user, answer)
	}
	return c
}

func (h *host) admin(t testing.TB) *client.IMAP {
	t.Helper()
	c := h.connect(t)
	if answer, ok := c.Login(admin, adminPassword); !ok {
		t.Fatalf("the administrator's login: %q", answer)
	}
	return c
}

// begin opens an LMTP session and names sender and recipients.
func (h *host) begin(t testing.TB, users ...string) *client.Transaction {
	t.Helper()
	var conn net.Conn
	// The socket's queue may be full for a moment.
	harness.Eventually(t, patience, "lmtpd takes a connection", func() bool {
		var err error
		conn, err = net.Dial("unix", h.path("/run/cyrus/socket/lmtp"))
		return err == nil
	})
	return client.Begin(t, conn, users...)
}

// deliver delivers one message to recipients in one transaction; it must work.
func (h *host) deliver(t testing.TB, message string, users ...string) {
	t.Helper()
	for i, a := range h.begin(t, users...).Data(t, message) {
		if a != "250" {
			t.Errorf("delivery to %s: %s", users[i], a)
		}
	}
}

// tool runs one of Cyrus' programs as Cyrus' user, and returns what it said and whether it ended well.
func (h *host) tool(t testing.TB, argv ...string) (string, bool) {
	t.Helper()
	argv[0] = "/usr/lib/cyrus/bin/" + argv[0]
	cmd := h.command(t, append([]string{"setpriv", fmt.Sprint("--reuid=", h.uid), fmt.Sprint("--regid=", h.gid), "--init-groups", "--"}, argv...)...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%q: %v", argv, err)
	}
	if err == nil {
		return string(out), true
	}
	return fmt.Sprintf("%s%v", out, err), false
}

// plainHost is a Cyrus on a directory of ext4.
func plainHost(t testing.TB, l layout, users ...string) *host {
	t.Helper()
	r := newRoot(t)
	dir, _ := harness.Image{}.Mounted(t)
	must(t, os.Mkdir(r.path(mail), 0o755))
	r.mount(t, dir, mail, "", unix.MS_BIND)
	return r.start(t, l, users...)
}
