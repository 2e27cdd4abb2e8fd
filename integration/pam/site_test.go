// Package pam_test runs the PAM module in real hosts (pamtester, saslauthd, Dovecot, passwd) against the daemon's side
// of it. Every host gets surroundings of its own: a copy of /etc with other PAM files and users, and a syslog socket,
// bound in a mount namespace. The machine's own files are never touched.
package pam_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"github.com/mailcryptfs/mailcryptfs/pam/unlock"
)

// Users of every site: alice and her password are in passwd and shadow.
const (
	alice         = "alice"
	alicePassword = "correct horse"
	aliceID       = 2001
)

// timeLimit is the module's where it is to pass: short enough to wait for. Elsewhere it is the longest that the module takes.
const timeLimit = 1500 * time.Millisecond

// impatient is the option of the module for it.
var impatient = fmt.Sprintf("timeout=%d", timeLimit.Milliseconds())

// site is one set of private surroundings.
type site struct {
	t       *testing.T
	dir     string
	syslog  *harness.Journal
	options string // of the module
}

// module is the shared object under test, built once by TestMain.
var module string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "pam-module-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if out, err := exec.Command("make", "-C", "../../pam/module", "O="+dir, "module").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "cannot build the module: %v\n%s", err, out)
		return 1
	}
	module = filepath.Join(dir, "pam_mailcryptfs.so")
	return m.Run()
}

// newSite prepares surroundings in which the module has the given options besides socket=; it is patient unless one of them
// is impatient.
func newSite(t *testing.T, options ...string) *site {
	t.Helper()
	// Unix socket paths are short: t.TempDir's would not do.
	dir, err := os.MkdirTemp("", "pam-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s := &site{t: t, dir: dir, syslog: new(harness.Journal)}
	s.options = strings.Join(append([]string{
		"socket=" + s.socket(), "timeout=60000",
	}, options...), " ")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "dev"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.listenToSyslog()
	s.must(exec.Command("cp", "-a", "/etc", dir+"/etc"))
	s.write("binds", "/etc\n")
	s.writePAM()
	s.addUser(alice, alicePassword, aliceID)
	s.odd()
	return s
}

func (s *site) must(cmd *exec.Cmd) {
	s.t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}

func (s *site) socket() string { return filepath.Join(s.dir, "pam.sock") }

func (s *site) write(path, content string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, path), []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// service writes a PAM service; the module's name stands for the one under test and its options.
func (s *site) service(name, lines string) {
	s.t.Helper()
	lines = strings.ReplaceAll(lines, "pam_mailcryptfs.so", module+" "+s.options)
	s.write("etc/pam.d/"+name, lines)
}

// writePAM writes Debian's common files and, for the services, the files that are shipped.
func (s *site) writePAM() {
	s.t.Helper()
	if err := os.RemoveAll(filepath.Join(s.dir, "etc/pam.d")); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.dir, "etc/pam.d"), 0o755); err != nil {
		s.t.Fatal(err)
	}
	for kind, line := range map[string]string{
		"auth":     "auth [success=1 default=ignore] pam_unix.so nullok nodelay",
		"account":  "account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so",
		"password": "password [success=1 default=ignore] pam_unix.so obscure sha512 rounds=1000",
		"session":  "session [default=1] pam_permit.so",
	} {
		s.service("common-"+kind, fmt.Sprintf("%s\n%s requisite pam_deny.so\n%s required pam_permit.so\n", line, kind, kind))
	}
	s.service("other", "auth required pam_deny.so\naccount required pam_deny.so\n")
	s.service("plain", "@include common-auth\n@include common-account\n")
	shipped := "../../contrib/pam-configs/pam.d"
	entries, err := os.ReadDir(shipped)
	if err != nil || len(entries) == 0 {
		s.t.Fatalf("%s: %d files, %v", shipped, len(entries), err)
	}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(shipped, e.Name()))
		if err != nil {
			s.t.Fatal(err)
		}
		s.service(e.Name(), string(content))
	}
}

func (s *site) addUser(name, password string, id int) {
	s.t.Helper()
	for file, line := range map[string]string{
		"passwd": fmt.Sprintf("%s:x:%d:%d::/nonexistent:/bin/sh\n", name, id, id),
		"group":  fmt.Sprintf("%s:x:%d:\n", name, id),
		"shadow": fmt.Sprintf("%s:!:19000:0:99999:7:::\n", name),
	} {
		f, err := os.OpenFile(filepath.Join(s.dir, "etc", file), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			s.t.Fatal(err)
		}
		_, err = f.WriteString(line)
		if err = errors.Join(err, f.Close()); err != nil {
			s.t.Fatal(err)
		}
	}
	// -c: without PAM.
	if out, err := s.run(name+":"+password+"\n", "chpasswd", "-c", "SHA512", "-s", "1000"); err != nil {
		s.t.Fatalf("chpasswd: %v: %s", err, out)
	}
}

// listenToSyslog collects what the hosts log.
func (s *site) listenToSyslog() {
	s.t.Helper()
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("syslog:\n%s", s.syslog)
		}
	})
	s.syslog.Listen(s.t, filepath.Join(s.dir, "log"))
}

// command returns a command that will run in the surroundings.
func (s *site) command(ctx context.Context, args ...string) *exec.Cmd {
	script, err := filepath.Abs("../harness/enter.sh")
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, script, append([]string{s.dir}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Setpgid: true}
	return cmd
}

// run runs a command in the surroundings to its end, and returns what it wrote.
func (s *site) run(stdin string, args ...string) (string, error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := s.command(ctx, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// server starts a command in the surroundings and ends it, with all its children, when the test ends. It returns its
// process id, and what it writes.
func (s *site) server(args ...string) (int, *harness.Journal) {
	s.t.Helper()
	out := new(harness.Journal)
	cmd := s.command(context.Background(), args...)
	cmd.Stdout, cmd.Stderr = out, out
	// Also if this process dies before its cleanup.
	cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s.t.Cleanup(func() {
		_ = syscall.Kill(cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(3 * time.Second):
			// saslauthd writes to syslog in its signal handlers, and then hangs now and then.
			s.t.Logf("%s had to be killed", args[0])
			_ = cmd.Process.Kill()
			<-ended
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the rest of the group
		if s.t.Failed() {
			s.t.Logf("%s:\n%s", args[0], out)
		}
	})
	return cmd.Process.Pid, out
}

// serve lets u answer the module until the test ends. Tests with another Unlocker than a recorder use it as well.
func (s *site) serve(u unlock.Unlocker) {
	s.t.Helper()
	l, err := unlock.Listen(s.socket())
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	log := new(harness.Journal)
	go func() {
		done <- unlock.Serve(ctx, l, u, unlock.Options{Log: slog.New(slog.NewTextHandler(log, nil))})
	}()
	s.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
		if s.t.Failed() {
			s.t.Logf("daemon:\n%s", log)
		}
	})
}

// hang puts in place of the daemon one that takes connections and requests, and never answers.
func (s *site) hang() { s.hold() }

// hold does the same, until release closes what was taken.
func (s *site) hold() (release func()) {
	s.t.Helper()
	l, err := net.Listen("unix", s.socket())
	if err != nil {
		s.t.Fatal(err)
	}
	var taken sync.WaitGroup
	stop := make(chan struct{})
	taken.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			taken.Go(func() {
				go func() { _, _ = io.Copy(io.Discard, conn) }()
				<-stop
				_ = conn.Close()
			})
		}
	})
	release = sync.OnceFunc(func() { close(stop) })
	s.t.Cleanup(func() {
		release()
		_ = l.Close()
		taken.Wait()
	})
	return release
}

// stuff puts in place of the daemon one that does not even take connections, and fills its queue.
func (s *site) stuff() {
	s.t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: s.socket()}), syscall.Listen(fd, 0)); err != nil {
		s.t.Fatal(err)
	}
	conn, err := net.Dial("unix", s.socket())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
}

// waitFor waits until ready says yes, for a server to come up.
func (s *site) waitFor(what string, ready func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !ready() {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: waited in vain", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// logged tells whether syslog has a line of the module with all the words.
func (s *site) logged(words ...string) bool {
	s.t.Helper()
	// Datagrams arrive in order: when this one is there, all that the hosts wrote before is.
	mark := fmt.Sprintf("mark %p %d", s, time.Now().UnixNano())
	conn, err := net.Dial("unixgram", filepath.Join(s.dir, "log"))
	if err == nil {
		_, err = io.WriteString(conn, mark)
		_ = conn.Close()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.waitFor("syslog", func() bool { return strings.Contains(s.syslog.String(), mark) })
	for line := range strings.Lines(s.syslog.String()) {
		found := strings.Contains(line, "mailcryptfs")
		for _, w := range words {
			found = found && strings.Contains(line, w)
		}
		if found {
			return true
		}
	}
	return false
}
