package harness

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// The environment by which the three lives of a test binary tell each other apart.
const (
	envInside = "MAILCRYPTFS_TEST_INSIDE" // set: in the private mount namespace
	envChild  = "MAILCRYPTFS_TEST_CHILD"  // name of the function that a child runs
	envIDs    = "MAILCRYPTFS_TEST_IDS"    // uid:gid[:group…] that a child takes
	envBinary = "MAILCRYPTFS_TEST_BINARY" // the daemon's binary; built when empty
	envBuild  = "MAILCRYPTFS_TEST_BUILD"  // why it could not be built
	envRace   = "HARNESS_RACE"            // 1: build the daemon with the race detector
)

// Main is the body of TestMain: it returns the exit code. procs are the functions that [Spawn] can run as children.
func Main(m *testing.M, procs Procs) int {
	if name := os.Getenv(envChild); name != "" {
		return runChild(name, procs)
	}
	if dir := os.Getenv(envInside); dir != "" {
		// Images lie on a mount of their own: were a filesystem mounted below the mount that holds its image, and that one
		// detached because somebody removed its directory, each would hold the other for ever.
		for _, d := range []string{dir, imageDir(dir)} {
			if err := syscall.Mount("tmpfs", d, "tmpfs", 0, "mode=0711"); err != nil {
				fmt.Fprintln(os.Stderr, "harness:", err)
				return 1
			}
		}
		return m.Run()
	}
	code, err := reexec()
	if err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		return 1
	}
	return code
}

// OneMore has one test more run at once than there are processors. It is for tests that wait most of the time, for epochs and
// graces to end. To be called before Main.
func OneMore() {
	if err := flag.Set("test.parallel", strconv.Itoa(runtime.GOMAXPROCS(0)+1)); err != nil {
		panic(err) // the name is one of package testing
	}
}

// WithoutRace has the daemon built without the race detector, whatever was asked for. It is for tests of what is on the
// disk after thousands of moments, faults or changes, or of what is in the daemon's memory: the detector makes the daemon ten
// times slower, and has a memory of its own. To be called before Main.
func WithoutRace() {
	if err := os.Unsetenv(envRace); err != nil {
		panic(err) // the name is a constant of this package
	}
}

// AsShipped has the following sites of a test run a binary that is built as for users: it erases what it leaves on the
// heap, and has no race detector, whose shadow memory would be measured and searched too.
func AsShipped(t testing.TB) {
	t.Helper()
	binary := filepath.Join(Dir(t), "mailcryptfs")
	cmd := exec.Command("go", "build", "-o", binary, "github.com/mailcryptfs/mailcryptfs/cmd/mailcryptfs")
	cmd.Env = append(os.Environ(), "GOEXPERIMENT=runtimesecret")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	t.Setenv(envBinary, binary)
}

// imageDir is where the images of filesystems lie, beside the directory for everything else.
func imageDir(dir string) string { return dir + ".images" }

// reexec runs this binary again in a mount namespace and removes its directory when it has ended.
func reexec() (code int, err error) {
	if os.Geteuid() != 0 {
		return 1, errors.New("these tests mount filesystems and need root")
	}
	base, err := os.MkdirTemp("", "mailcryptfs-test")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(base)) }()
	if err := os.Chmod(base, 0o711); err != nil {
		return 1, err
	}
	tmp := filepath.Join(base, "t")
	if err := errors.Join(os.Mkdir(tmp, 0o711), os.Mkdir(imageDir(tmp), 0o711)); err != nil {
		return 1, err
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), envInside+"="+tmp, "TMPDIR="+tmp)
	cmd.Env = append(cmd.Env, build(base)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	// The signal of Pdeathsig comes when the thread that started the process ends: hold on to it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return supervise(cmd)
}

// supervise runs cmd and passes on the signals that go test and people send.
func supervise(cmd *exec.Cmd) (int, error) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case s := <-signals:
				_ = cmd.Process.Signal(s)
			case <-done:
				return
			}
		}
	}()
	var exit *exec.ExitError
	if err := cmd.Wait(); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	} else if err != nil {
		return 1, err
	}
	return 0, nil
}

// build makes the daemon's binary below base, and returns the environment that says where it is, or why it is not.
func build(base string) []string {
	if os.Getenv(envBinary) != "" {
		return nil
	}
	binary := filepath.Join(base, "mailcryptfs")
	args := []string{"build", "-o", binary}
	if os.Getenv(envRace) == "1" {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "github.com/mailcryptfs/mailcryptfs/cmd/mailcryptfs")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return []string{envBuild + "=" + strings.ReplaceAll(fmt.Sprintf("%v: %s", err, out), "\x00", "")}
	}
	return []string{envBinary + "=" + binary}
}

// Binary is the path of the daemon's binary.
func Binary(t testing.TB) string {
	t.Helper()
	if why := os.Getenv(envBuild); why != "" {
		t.Fatalf("mailcryptfs does not build: %s", why)
	}
	return os.Getenv(envBinary)
}
