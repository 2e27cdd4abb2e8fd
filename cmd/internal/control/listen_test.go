package control

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestListen runs before the parallel tests: one that starts a program has a copy of the listening socket for a moment.
func TestListen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	l, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	if _, err := Listen(t.Context(), path); !errors.Is(err, ErrInUse) {
		t.Errorf("second daemon: %v", err)
	}
	l.SetUnlinkOnClose(false) // as after kill -9
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatalf("stale socket: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a file in the way: %v", err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(t.Context(), filepath.Join(dir, "t")); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
		t.Errorf("a directory that others can write: %v", err)
	}
}

// TestOthersAreRefused calls the daemon from a child that runs as nobody: once through a socket that its mode protects,
// once through one that only the peer check does.
func TestOthersAreRefused(t *testing.T) {
	t.Parallel()
	if path := os.Getenv("CONTROL_TEST_SOCKET"); path != "" {
		_, err := NewClient(path).Lock(t.Context(), "alice")
		fmt.Printf("child: %v\n", err)
		return
	}
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root: run contrib/test.sh with sudo")
	}
	r := &recorder{}
	path, _ := start(t, r)
	// Every directory above the socket is passable, so that only the socket is in the way.
	for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out := asNobody(t, path); !strings.Contains(out, ErrNotPermitted.Error()) {
		t.Errorf("socket 0600: %s", out)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if out := asNobody(t, path); !strings.Contains(out, "not uid 65534") {
		t.Errorf("socket 0666: %s", out)
	}
	if len(r.calls) > 0 {
		t.Errorf("the service was called: %q", r.calls)
	}
}

// asNobody runs this test as uid 65534 against the socket and returns what it printed. The test binary is copied,
// because go test builds it where nobody may not go.
func asNobody(t *testing.T, socket string) string {
	t.Helper()
	binary := filepath.Join(filepath.Dir(socket), "child")
	// By a process of its own: a program that is started meanwhile would keep the file open for writing (ETXTBSY).
	copied := exec.CommandContext(t.Context(), "install", "-m", "0755", fmt.Sprintf("/proc/%d/exe", os.Getpid()), binary)
	if out, err := copied.CombinedOutput(); err != nil {
		t.Fatalf("install: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), binary, "-test.run=^TestOthersAreRefused$")
	cmd.Env = []string{"CONTROL_TEST_SOCKET=" + socket}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	return string(out)
}
