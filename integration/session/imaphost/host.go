// Package imaphost runs a real Dovecot over a view for black-box tests: its own instance on the loopback interface, whose
// logins go through PAM with the module of this repository. It needs the private mount namespace that package harness
// makes: PAM's configuration is replaced in it.
package imaphost

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// UID is whom all mail belongs to, user and group: Debian's user mail.
const UID = 8

// Host is a Dovecot that runs.
type Host struct {
	Anvil string // socket of its anvil process
	Conf  string // its configuration file
	addr  string
	dir   string
	pid   int
	log   *harness.Journal
}

// Options say how a Host differs from a plain one.
type Options struct {
	Users      map[string]string // passwords by user
	PostLogin  string            // script that runs, as root, between login and session
	Module     bool              // logins go through the PAM module
	ModuleArgs string
}

const port = "31143"

const conf = `
base_dir = @dir@/run
state_dir = @dir@/state
log_path = /dev/stderr
protocols = imap
listen = @ip@
ssl = no
disable_plaintext_auth = no
auth_username_chars =
auth_failure_delay = 0
first_valid_uid = 8
mail_location = maildir:~
mail_fsync = never
service imap-login {
  inet_listener imap {
    port = @port@
  }
  inet_listener imaps {
    port = 0
  }
}
service imap {
  executable = imap @postlogin@
}
passdb {
  driver = pam
  args = imap
}
userdb {
  driver = static
  args = uid=8 gid=8 home=@view@/%u
}
`

const postLogin = `
service imap-postlogin {
  executable = script-login @script@
  user = root
  vsz_limit = 2G
  unix_listener imap-postlogin {
  }
}
`

// Prepare makes the directory of a Host, so that its paths are known before the daemon starts.
func Prepare(t testing.TB) *Host {
	t.Helper()
	dir := harness.Dir(t)
	return &Host{Anvil: filepath.Join(dir, "run/anvil"), Conf: filepath.Join(dir, "dovecot.conf"), dir: dir, log: new(harness.Journal)}
}

// Start runs Dovecot over the view of a site until the test ends.
func (h *Host) Start(t testing.TB, s *harness.Site, o Options) {
	t.Helper()
	h.pam(t, s, o)
	h.SetPasswords(t, o.Users)
	ip := harness.Loopback()
	h.addr = net.JoinHostPort(ip, port)
	text, service := conf, ""
	if o.PostLogin != "" {
		text, service = conf+postLogin, "imap-postlogin"
	}
	text = strings.NewReplacer("@dir@", h.dir, "@ip@", ip, "@port@", port, "@view@", s.View, "@postlogin@", service, "@script@", o.PostLogin).Replace(text)
	if err := os.WriteFile(h.Conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("dovecot", "-F", "-c", h.Conf)
	cmd.Stdout, cmd.Stderr = h.log, h.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.pid = cmd.Process.Pid
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the rest of its group
		if t.Failed() {
			t.Logf("dovecot:\n%s", h.log)
		}
	})
	harness.Eventually(t, time.Minute, "dovecot listens", func() bool {
		conn, err := net.Dial("tcp", h.addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// Log is what Dovecot wrote.
func (h *Host) Log() string { return h.log.String() }

// pam puts a directory with our services in the place of /etc/pam.d.
func (h *Host) pam(t testing.TB, s *harness.Site, o Options) {
	t.Helper()
	dir := filepath.Join(h.dir, "pam.d")
	lines := ""
	for _, kind := range []string{"auth", "account"} {
		lines += fmt.Sprintf("%s required pam_userdb.so crypt=none db=%s\n", kind, filepath.Join(h.dir, "users"))
		if o.Module {
			lines += fmt.Sprintf("%s optional %s socket=%s %s\n", kind, harness.Module(t), filepath.Join(filepath.Dir(s.Control), "pam.sock"), o.ModuleArgs)
		}
	}
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "imap"), []byte(lines), 0o644),
		os.WriteFile(filepath.Join(dir, "other"), []byte("auth required pam_deny.so\naccount required pam_deny.so\n"), 0o644),
		unix.Mount(dir, "/etc/pam.d", "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount("/etc/pam.d", unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// SetPasswords changes who can log in; the module is not told.
func (h *Host) SetPasswords(t testing.TB, users map[string]string) {
	t.Helper()
	var text strings.Builder
	for user, password := range users {
		text.WriteString(user + "\n" + password + "\n")
	}
	path := filepath.Join(h.dir, "users.db")
	_ = os.Remove(path)
	cmd := exec.Command("db_load", "-T", "-t", "hash", path)
	cmd.Stdin = strings.NewReader(text.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("db_load: %v: %s", err, out)
	}
}
