package unlock

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

func TestOthersThanRootAreDenied(t *testing.T) {
	r := new(recorder)
	socket, _, _ := start(t, r, Options{})
	// Neither the mode of the socket nor that of the way to it may be what keeps them out here.
	for _, path := range []string{filepath.Dir(filepath.Dir(socket)), filepath.Dir(socket), socket} {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(t.TempDir(), "client")
	// By a process of its own: a program that is started meanwhile would keep the file open for writing (ETXTBSY).
	copied := exec.CommandContext(t.Context(), "install", "-m", "0755", fmt.Sprintf("/proc/%d/exe", os.Getpid()), program)
	if out, err := copied.CombinedOutput(); err != nil {
		t.Fatalf("install: %v\n%s", err, out)
	}
	if err := os.Chmod(filepath.Dir(program), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = []string{asStranger + "=" + socket}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "denied <nil>" {
		t.Errorf("got %q, %v", out, err)
	}
	if calls := r.seen(); len(calls) > 0 {
		t.Errorf("the request reached the unlocker: %q", calls)
	}
}
