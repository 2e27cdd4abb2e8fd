package pam_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/pam/wire"
)

// source is the module's only source file.
const source = "../../pam/module/pam_mailcryptfs.c"

func makeTarget(t *testing.T, target string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "make", "-C", "../../pam/module", "O="+t.TempDir(), target).CombinedOutput()
	if err != nil {
		t.Errorf("make %s: %v\n%s", target, err, out)
	}
}

func TestStaticAnalysis(t *testing.T) {
	t.Parallel()
	makeTarget(t, "scan")
}

// TestFrames runs the module's encoder and decoder against the golden frames, under valgrind.
func TestFrames(t *testing.T) {
	t.Parallel()
	makeTarget(t, "check")
}

func TestModuleIsSmall(t *testing.T) {
	content, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(content, []byte("\n")); n > 300 {
		t.Errorf("%d lines; an auditor is promised at most 300", n)
	}
	for i, line := range strings.Split(string(content), "\n") {
		if len(line) > 125 {
			t.Errorf("line %d has %d bytes", i+1, len(line))
		}
	}
}

// TestModuleHasNoState checks the object file: no variables, no threads, no processes, nothing exported but PAM's names.
func TestModuleHasNoState(t *testing.T) {
	object := filepath.Join(t.TempDir(), "module.o")
	if out, err := exec.Command("cc", "-O2", "-fPIC", "-c", "-o", object, source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	symbols, err := exec.Command("nm", object).Output()
	if err != nil {
		t.Fatal(err)
	}
	phases := 0
	forbidden := regexp.MustCompile(` U (pthread|fork|vfork|exec|system|popen|posix_spawn|signal|sigaction|alarm|malloc|getenv|dlopen)`)
	for line := range strings.Lines(string(symbols)) {
		fields := strings.Fields(line)
		kind, name := fields[len(fields)-2], fields[len(fields)-1]
		if strings.ContainsAny(kind, "bBdDC") || forbidden.MatchString(line) {
			t.Errorf("symbol: %s", line)
		}
		if kind == "T" {
			phases++
			if !strings.HasPrefix(name, "pam_sm_") {
				t.Errorf("exported: %s", name)
			}
		}
	}
	if phases != 6 {
		t.Errorf("%d phases, want 6", phases)
	}
}

// TestDocumentedDefaults compares what the manual page and PROTOCOL.md say with the source, and C with Go.
func TestDocumentedDefaults(t *testing.T) {
	content, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	defaults := regexp.MustCompile(`struct options o = \{"([^"]+)", (\d+), false, false\}`).FindSubmatch(content)
	if defaults == nil {
		t.Fatal("the source has no defaults")
	}
	socket, timeout := string(defaults[1]), string(defaults[2])
	if socket != wire.Socket {
		t.Errorf("the module asks at %s, the daemon listens at %s", socket, wire.Socket)
	}
	options := map[string]bool{}
	for _, m := range regexp.MustCompile(`cmp\(argv\[i\], "([a-z]+=?)/?"`).FindAllSubmatch(content, -1) {
		options[string(m[1])] = true
	}
	if len(options) != 4 {
		t.Errorf("options in the source: %v; want 4", options)
	}
	for path, words := range map[string][]string{
		"../../contrib/man/pam_mailcryptfs.8": append(slices.Collect(maps.Keys(options)), socket, "default "+timeout),
		"../../pam/PROTOCOL.md":               {socket, "(10 seconds unless"},
	} {
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range words {
			if !bytes.Contains(page, []byte(w)) {
				t.Errorf("%s does not mention %q", path, w)
			}
		}
	}
}

// TestValgrind runs whole logins and password changes in a real host under valgrind.
func TestValgrind(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(s *site){
		"working": func(s *site) { s.serve(new(recorder)) }, "gone": (*site).gone, "hanging": (*site).hang,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := []string{"debug"}
			if name == "hanging" {
				options = append(options, impatient)
			}
			s := newSite(t, options...)
			s.sessions()
			start(s)
			for _, c := range [][]string{
				{"imap", "authenticate", "setcred", "acct_mgmt", "open_session", "close_session"},
				{"imap", "authenticate", "authenticate", "acct_mgmt"},
				{"imap", "authenticate"},
				{"passwd", "chauthtok"},
			} {
				stdin := alicePassword + "\n" + alicePassword + "\n"
				if c[0] == "passwd" {
					stdin = newPassword + "\n" + newPassword + "\n"
				}
				args := append([]string{
					"valgrind", "-q", "--leak-check=full", "--show-leak-kinds=definite,possible",
					"--errors-for-leak-kinds=definite,possible", "--error-exitcode=9", "pamtester", c[0], alice,
				}, c[1:]...)
				if out, err := s.run(stdin, args...); err != nil {
					t.Errorf("%v: %v\n%s", c, err, out)
				}
			}
		})
	}
}

// TestDovecotLimits checks that the auth-worker in these tests has the limit on address space of a default Dovecot.
func TestDovecotLimits(t *testing.T) {
	t.Parallel()
	s := newSite(t, impatient)
	s.hang()
	enter := dovecot("%s")(s)
	done := make(chan bool)
	go func() { done <- enter(t, "imap", alice, alicePassword) }()
	var limits string
	s.waitFor("the auth-worker", func() bool {
		for _, pid := range processes(t, "dovecot/auth\x00-w") {
			if root := environment(pid, s.dir); root {
				limits, _ = readProc(pid, "limits")
			}
		}
		return limits != ""
	})
	if !regexp.MustCompile(`Max address space +268435456 +268435456`).MatchString(limits) {
		t.Errorf("limits of the auth-worker:\n%s", limits)
	}
	if !<-done {
		t.Error("the login failed")
	}
}

// processes returns the ids of processes whose command line begins so.
func processes(t *testing.T, begin string) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if line, err := readProc(pid, "cmdline"); err == nil && strings.HasPrefix(line, begin) {
			found = append(found, pid)
		}
	}
	return found
}

// environment tells whether a process runs in the surroundings dir, by its mounts.
func environment(pid int, dir string) bool {
	mounts, err := readProc(pid, "mountinfo")
	return err == nil && strings.Contains(mounts, dir+"/etc ")
}

func readProc(pid int, name string) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	return string(b), err
}

// TestMemory looks at a host that waits for the daemon: the password's pages are locked and not dumped where the limit
// allows it, and without locked memory the login works all the same.
func TestMemory(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limits []string
		locked int
	}{
		"64 KiB may be locked":  {[]string{"prlimit", "--memlock=65536:65536"}, 2},
		"nothing may be locked": {[]string{"prlimit", "--memlock=0:0"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			release := s.hold()
			args := append(c.limits, "--as=268435456:268435456", "setpriv", "--bounding-set=-ipc_lock,-sys_resource",
				"--inh-caps=-ipc_lock,-sys_resource", "pamtester", "imap", alice, "authenticate", "acct_mgmt")
			done := make(chan error, 1)
			go func() {
				out, err := s.run(alicePassword+"\n", args...)
				if err != nil {
					err = fmt.Errorf("%w: %s", err, out)
				}
				done <- err
			}()
			most, undumped := 0, 0
			waiting := true
			for waiting {
				select {
				case err := <-done:
					if err != nil {
						t.Errorf("the login failed: %v", err)
					}
					waiting = false
				case <-time.After(20 * time.Millisecond):
					for _, pid := range processes(t, "pamtester\x00imap") {
						if !environment(pid, s.dir) {
							continue
						}
						smaps, _ := readProc(pid, "smaps")
						most = max(most, strings.Count(smaps, " lo "))
						undumped = max(undumped, strings.Count(smaps, " dd ")-1) // vvar is never dumped
					}
					if undumped > 0 && (most > 0 || c.locked == 0) {
						release()
					}
				}
			}
			if (most > 0) != (c.locked > 0) || undumped < 1 {
				t.Errorf("%d mappings were locked, %d not dumped", most, undumped)
			}
		})
	}
}

// TestWrongOwner checks P1: the module sends nothing to a daemon that is not root's.
func TestWrongOwner(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if err := os.Chmod(s.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	// A server of another user that writes whatever it gets into a file.
	got := filepath.Join(s.dir, "got")
	script := `import os, socket, sys
os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()
open(sys.argv[2], "wb").close()
while True:
    c, _ = s.accept()
    with open(sys.argv[2], "ab") as f: f.write(c.recv(4096))
`
	s.server("python3", "-c", script, s.socket(), got)
	s.waitFor("the other server", func() bool {
		_, err := os.Stat(got)
		return err == nil
	})
	if out, err := s.run(alicePassword+"\n", "pamtester", "imap", alice, "authenticate", "acct_mgmt"); err != nil {
		t.Errorf("the login failed: %v: %s", err, out)
	}
	if !s.logged("alice", "not permitted", "the login goes on") {
		t.Error("no line says why")
	}
	if content, err := os.ReadFile(got); err != nil || len(content) > 0 {
		t.Errorf("it got %q, %v", content, err)
	}
}
