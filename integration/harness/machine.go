package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The directories of a machine that a Machine always has of its own.
const (
	etc      = "/etc"
	run      = "/run"
	srv      = "/srv"
	local    = "/usr/local"
	security = "/usr/lib/x86_64-linux-gnu/security" // of libpam
)

// Machine is private surroundings for the servers of a test: a copy of /etc with the PAM services that are shipped and
// users of its own, an empty /run, /srv, /usr/local and /dev, and a syslog socket, in a mount namespace that gets what the daemon
// mounts later, and takes nothing away from anybody. Files that are shipped so work at the places that they name: the view
// is /srv/mail, the PAM module is installed and finds the daemon, and so does the program.
type Machine struct {
	dir    string
	anchor int // a process in its namespace, which keeps it
	syslog Journal
}

// NewMachine makes surroundings in which mail is /srv/mail. With a site, logins through PAM reach its daemon. copies are
// further directories that the machine gets a copy of. Everything that runs in it is gone when the test ends.
func NewMachine(t testing.TB, mail string, s *Site, copies ...string) *Machine {
	t.Helper()
	m := &Machine{dir: Dir(t)}
	// What is mounted later below this directory shall be seen from the namespaces of machines.
	if err := unix.Mount("", os.Getenv(envInside), "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	copies = append([]string{etc, security}, copies...)
	for _, path := range copies {
		m.mkdir(t, filepath.Dir(path))
		Run(t, "cp", "-a", path, m.Path(path))
	}
	for _, path := range []string{run, srv, local + "/sbin"} {
		m.mkdir(t, path)
	}
	m.WriteFile(t, "/binds", strings.Join(append(copies, run, srv, local), "\n")+"\n")
	m.link(t, mail, srv+"/mail")
	if s != nil {
		m.link(t, Binary(t), local+"/sbin/mailcryptfs")
		m.link(t, s.Config, etc+"/mailcryptfs/mailcryptfs.toml")
		m.link(t, filepath.Dir(s.Control), run+"/mailcryptfs")
	}
	Run(t, "cp", Module(t), m.Path(security))
	m.pam(t)
	m.listen(t)
	m.enter(t)
	return m
}

// Path is where a file of the machine's own directories lies outside it.
func (m *Machine) Path(path string) string { return m.dir + path }

func (m *Machine) mkdir(t testing.TB, path string) {
	t.Helper()
	if err := os.MkdirAll(m.Path(path), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (m *Machine) link(t testing.TB, target, path string) {
	t.Helper()
	m.mkdir(t, filepath.Dir(path))
	_ = os.Remove(m.Path(path)) // what the copy has there
	if err := os.Symlink(target, m.Path(path)); err != nil {
		t.Fatal(err)
	}
}

// WriteFile writes a file that everybody may read.
func (m *Machine) WriteFile(t testing.TB, path, text string) {
	t.Helper()
	m.mkdir(t, filepath.Dir(path))
	if err := os.WriteFile(m.Path(path), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Install copies a file of this repository, given by its path there, to a place in the machine.
func (m *Machine) Install(t testing.TB, source, path string) {
	t.Helper()
	m.mkdir(t, filepath.Dir(path))
	Run(t, "cp", filepath.Join("../..", source), m.Path(path))
}

// listen collects what the servers send to syslog.
func (m *Machine) listen(t testing.TB) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("syslog:\n%s", &m.syslog)
		}
	})
	m.syslog.Listen(t, m.Path("/log"))
}

// Syslog is what came to syslog so far.
func (m *Machine) Syslog() string { return m.syslog.String() }

// enter starts the process that keeps the namespace.
func (m *Machine) enter(t testing.TB) {
	t.Helper()
	script, err := filepath.Abs("../harness/enter.sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--mount", "--propagation", "slave", script, m.dir, "sh", "-c", "echo ready; exec cat")
	in, err := cmd.StdinPipe() // cat ends with this process
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var problems bytes.Buffer
	cmd.Stderr = &problems
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatalf("enter.sh: %v: %s", err, &problems)
	}
	m.anchor = cmd.Process.Pid
}

// Command is a command in the machine.
func (m *Machine) Command(args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"-t", fmt.Sprint(m.anchor), "-m", "--"}, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/root"}
	return cmd
}

// Run runs a command in the machine and fails the test unless it ends well.
func (m *Machine) Run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := m.Command(args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v: %s", args, err, out)
	}
	return string(out)
}

// Serve starts a server in the machine, as a process that stays in the foreground. It ends, with all that it started in
// its process group, when the returned function is called, or else when the test ends.
func (m *Machine) Serve(t testing.TB, args ...string) (stop func()) {
	t.Helper()
	cmd := m.Command(args...)
	out, err := os.CreateTemp(m.dir, "out") // a file: nobody waits for children that hold it
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(stopTime, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		_ = cmd.Wait()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the rest of its group
	})
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			said, err := os.ReadFile(out.Name())
			t.Logf("%q: %s %v", args, said, err)
		}
	})
	return stop
}
