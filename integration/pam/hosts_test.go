package pam_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// host is a program that checks passwords by PAM.
type host struct {
	name  string
	start func(s *site) login
	limit int // longest name or password in bytes that the host takes
}

// login tells whether the host lets user and password in for a service.
type login func(t *testing.T, service, user, password string) bool

func hosts() []host {
	return []host{
		{"pamtester", pamtester("authenticate", "acct_mgmt"), 511},
		{"pamtester all phases", pamtester("authenticate", "setcred", "acct_mgmt", "open_session", "close_session"), 511},
		{"pamtester session only", pamtester("authenticate", "open_session", "close_session"), 511},
		{"saslauthd", saslauthd(), 255},
		{"saslauthd -n 0", saslauthd("-n", "0"), 255},
		{"dovecot", dovecot("%s"), 1024},
		{"dovecot all phases", dovecot("session=yes setcred=yes %s"), 1024},
	}
}

// forHosts runs a test once for each host, or for those that are named, with a site and the module's options of its own.
func forHosts(t *testing.T, options []string, test func(t *testing.T, s *site, h host, enter login), names ...string) {
	t.Helper()
	for _, h := range hosts() {
		if len(names) > 0 && !slices.Contains(names, h.name) {
			continue
		}
		t.Run(h.name, func(t *testing.T) {
			s := newSite(t, options...)
			test(t, s, h, h.start(s))
		})
	}
}

// exited returns the exit status, or fails the test if the command did not even run.
func exited(t *testing.T, out string, err error) bool {
	t.Helper()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() < 0) {
		t.Fatalf("%v: %s", err, out)
	}
	return err == nil
}

// sessions adds session lines to the services, for hosts that use that phase.
func (s *site) sessions() {
	s.t.Helper()
	for _, service := range []string{"imap", "odd", "plain"} {
		path := filepath.Join("etc/pam.d", service)
		content, err := os.ReadFile(filepath.Join(s.dir, path))
		if err != nil {
			s.t.Fatal(err)
		}
		lines := string(content) + "session required pam_permit.so\n"
		if service != "plain" {
			lines += "session optional " + module + " " + s.options + "\n"
		}
		s.write(path, lines)
	}
}

func pamtester(phases ...string) func(s *site) login {
	return func(s *site) login {
		s.sessions()
		return func(t *testing.T, service, user, password string) bool {
			t.Helper()
			args := append([]string{"pamtester", "-I", "rhost=192.0.2.7", service, user}, phases...)
			out, err := s.run(password+"\n", args...)
			return exited(t, out, err)
		}
	}
}

func saslauthd(options ...string) func(s *site) login {
	return func(s *site) login {
		mux := filepath.Join(s.dir, "mux")
		if err := os.Mkdir(mux, 0o700); err != nil {
			s.t.Fatal(err)
		}
		s.server(append([]string{"saslauthd", "-d", "-a", "pam", "-m", mux}, options...)...)
		socket := filepath.Join(mux, "mux")
		s.waitFor("saslauthd", func() bool {
			_, err := os.Stat(socket)
			return err == nil
		})
		return func(t *testing.T, service, user, password string) bool {
			t.Helper()
			out, err := s.run("", "testsaslauthd", "-f", socket, "-s", service, "-u", user, "-p", password)
			exited(t, out, err)
			return strings.Contains(out, "OK \"Success")
		}
	}
}

const dovecotConf = `
base_dir = @dir@/run
state_dir = @dir@/state
log_path = /dev/stderr
protocols =
ssl = no
auth_username_chars =
auth_username_format = %u
auth_failure_delay = 0
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
passdb {
  driver = pam
  args = @args@
}
userdb {
  driver = static
  args = uid=2001 gid=2001 home=/nonexistent
}
`

// dovecot starts Dovecot with its default limits: the auth-worker has 256 MiB of address space.
func dovecot(args string) func(s *site) login {
	return func(s *site) login {
		s.sessions()
		s.write("dovecot.conf", strings.NewReplacer("@dir@", s.dir, "@args@", args).Replace(dovecotConf))
		conf := filepath.Join(s.dir, "dovecot.conf")
		_, out := s.server("dovecot", "-F", "-c", conf)
		s.waitFor("dovecot", func() bool { return strings.Contains(out.String(), "starting up") })
		return func(t *testing.T, service, user, password string) bool {
			t.Helper()
			out, err := s.run("", "doveadm", "-c", conf, "auth", "test", "-x", "service="+service, "--", user, password)
			ok := exited(t, out, err)
			if ok != strings.Contains(out, "auth succeeded") {
				t.Fatalf("doveadm: %v: %s", err, out)
			}
			return ok
		}
	}
}

// oddUsers are virtual users with names and passwords as they occur in real life. Those that are longer than a host
// takes are left out for it.
var oddUsers = map[string]string{
	"alice@example.org":       "pass word",
	"o'neil%x+y@example.org":  "50%s%n off/@home",
	"dir/sub/user":            "a/b\\c\"d'e$f`g",
	"with space":              "  spaces  around  ",
	"jürgen@exämple.org":      "Käse-日本語-ß",
	strings.Repeat("n", 200):  strings.Repeat("p", 250),
	strings.Repeat("N", 1024): strings.Repeat("P", 1024),
}

// odd writes the service "odd", whose users are oddUsers, in a Berkeley DB.
func (s *site) odd() {
	s.t.Helper()
	var text strings.Builder
	for user, password := range oddUsers {
		for _, value := range []string{user, password} {
			text.WriteString(strings.ReplaceAll(value, `\`, `\\`) + "\n")
		}
	}
	if out, err := s.run(text.String(), "db_load", "-T", "-t", "hash", filepath.Join(s.dir, "odd.db")); err != nil {
		s.t.Fatalf("db_load: %v: %s", err, out)
	}
	db := filepath.Join(s.dir, "odd")
	s.service("odd", "auth required pam_userdb.so crypt=none db="+db+"\nauth optional pam_mailcryptfs.so\n"+
		"account required pam_userdb.so crypt=none db="+db+"\naccount optional pam_mailcryptfs.so\n")
}
