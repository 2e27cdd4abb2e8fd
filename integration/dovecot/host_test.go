package dovecot

import (
	"bytes"
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

// mailUID owns all mail, user and group: Debian's user mail.
const mailUID = 8

// patience is how long anything may take on a busy machine.
const patience = 60 * time.Second

// host is a Dovecot that runs over one directory of mail.
type host struct {
	dir  string // its sockets, configuration and log
	mail string // one directory for each user
}

// example is the configuration that is shipped; only the path of the view is another.
const example = "../../contrib/dovecot/dovecot-2.3.conf.example"

// conf is what else an instance beside the system's needs, and the features that are tested.
const conf = `
base_dir = @dir@/run
state_dir = @dir@/state
log_path = @dir@/log
protocols = imap pop3 lmtp
ssl = no
disable_plaintext_auth = no
auth_failure_delay = 0
first_valid_uid = 8
hostname = mx.example.org
postmaster_address = postmaster@example.org
# Sizes of messages have to be the same in every run.
lmtp_add_received_header = no
mail_max_userip_connections = 100
service imap-login {
  inet_listener imap {
    port = 0
  }
  inet_listener imaps {
    port = 0
  }
  unix_listener imap {
    mode = 0600
  }
}
service pop3-login {
  inet_listener pop3 {
    port = 0
  }
  inet_listener pop3s {
    port = 0
  }
  unix_listener pop3 {
    mode = 0600
  }
}
service lmtp {
  unix_listener lmtp {
    mode = 0600
  }
}
passdb {
  driver = passwd-file
  args = @dir@/users
}
userdb {
  driver = static
  args = uid=8 gid=8
}
mail_plugins = quota
protocol imap {
  mail_plugins = quota imap_quota
}
protocol lmtp {
  mail_plugins = quota sieve
}
plugin {
  quota = maildir:User quota
  quota_rule = *:storage=1G
  sieve = file:~/sieve;active=~/.dovecot.sieve
}
`

// sieve files mail by its subject.
const sieve = `require ["fileinto", "mailbox", "imap4flags"];
if header :contains "Subject" "to-work" { fileinto "Work"; }
elsif header :contains "Subject" "to-new" { fileinto :create "Made.By Sieve"; }
elsif header :contains "Subject" "to-flags" { setflag ["\\Flagged", "$Label1", "custom"]; keep; }
elsif header :contains "Subject" "flags-new" { setflag ["\\Seen", "other"]; fileinto :create "Flags"; }
`

// startHost runs Dovecot over a directory of mail until the test ends, with further lines of configuration, for users who
// all have the password "pw".
func startHost(t testing.TB, mail, more string, users ...string) *host {
	t.Helper()
	h := &host{dir: harness.Dir(t), mail: mail}
	shipped, err := os.ReadFile(example)
	must(t, err)
	home := mail + "/%u"
	if byDomain(users) {
		home = mail + "/%d/%n"
	}
	text := strings.NewReplacer("@dir@", h.dir, "/srv/mail/%u", home).Replace(string(shipped) + conf + more)
	must(t, os.WriteFile(filepath.Join(h.dir, "conf"), []byte(text), 0o644))
	var passwd strings.Builder
	for _, u := range users {
		passwd.WriteString(u + ":{PLAIN}pw\n")
	}
	must(t, os.WriteFile(filepath.Join(h.dir, "users"), []byte(passwd.String()), 0o644))
	must(t, os.WriteFile(h.logPath(), nil, 0o666))
	must(t, os.Chmod(h.logPath(), 0o666))
	cmd := exec.Command("dovecot", "-F", "-c", filepath.Join(h.dir, "conf"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 10 * time.Second
	must(t, cmd.Start())
	t.Cleanup(func() {
		h.stop(cmd)
		if t.Failed() {
			t.Logf("dovecot over %s: %s%s", mail, &out, strings.Join(h.complaints(t), "\n"))
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
	return h
}

// byDomain says whether users have a domain, and so directories below that of the domain.
func byDomain(users []string) bool { return strings.Contains(users[0], "@") }

// homeOf is the directory of a user.
func (h *host) homeOf(user string) string {
	if local, domain, found := strings.Cut(user, "@"); found {
		return filepath.Join(h.mail, domain, local)
	}
	return filepath.Join(h.mail, user)
}

// stop ends Dovecot and everything that it started.
func (h *host) stop(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the rest of its group
}

func (h *host) socket(name string) string { return filepath.Join(h.dir, "run", name) }

func (h *host) logPath() string { return filepath.Join(h.dir, "log") }

func (h *host) log(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(h.logPath())
	must(t, err)
	return string(b)
}

// home makes the directory of a user, with a Sieve script.
func (h *host) home(t testing.TB, user string) {
	t.Helper()
	home := h.homeOf(user)
	script := filepath.Join(home, ".dovecot.sieve")
	must(t, os.MkdirAll(filepath.Dir(home), 0o755))
	must(t, os.Mkdir(home, 0o700))
	must(t, os.WriteFile(script, []byte(sieve), 0o600))
	must(t, os.Chown(script, mailUID, mailUID))
	must(t, os.Chown(home, mailUID, mailUID))
}

// newSite is a view with users who are enrolled and locked, and a Dovecot over it.
func newSite(t testing.TB, users ...string) (*harness.Site, *host) {
	t.Helper()
	return newSiteWith(t, "", "", users...)
}

// newSiteWith is newSite with further lines in the configurations of mailcryptfs and Dovecot.
func newSiteWith(t testing.TB, config, conf string, users ...string) (*harness.Site, *host) {
	t.Helper()
	template := "%u"
	if byDomain(users) {
		template = "%d/%n"
	}
	s := harness.New(t, harness.Options{Profile: "dovecot-maildir", User: template, Epoch: "1s"})
	f, err := os.OpenFile(s.Config, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString("grace = \"1h\"\n" + config)
	must(t, err)
	must(t, f.Close())
	s.Serve(t)
	h := startHost(t, s.View, conf, users...)
	s.Enroll(t, users...)
	for _, u := range users {
		h.home(t, u)
	}
	return s, h
}

// messages are the files of messages below a directory of mail, and what else lies in the maildirs' three directories.
func messages(t testing.TB, home string) (paths []string) {
	t.Helper()
	must(t, filepath.WalkDir(home, func(path string, d os.DirEntry, err error) error {
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
