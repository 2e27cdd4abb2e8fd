package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
)

// TestMain runs the program itself when the test binary is started as it.
func TestMain(m *testing.M) {
	if os.Getenv("RUN_MAILCRYPTFS") == "1" {
		main()
	}
	os.Exit(m.Run())
}

// call runs the program as a process of its own.
func call(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	cmd.Env = []string{"RUN_MAILCRYPTFS=1"}
	return finish(t, cmd)
}

func finish(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// configFile writes a configuration whose paths all lie in a directory of the test.
func configFile(t *testing.T, more string) string {
	t.Helper()
	dir := t.TempDir()
	c := config.Default()
	c.Store, c.View, c.SiteSecret = dir+"/lib/store", dir+"/view", dir+"/site.secret"
	c.Keyring, c.Control = dir+"/run/keyring", dir+"/run/control.sock"
	c.PAM = dir + "/run/pam.sock"
	path := filepath.Join(dir, "mailcryptfs.toml")
	if err := os.WriteFile(path, append(config.Render(c), more...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
