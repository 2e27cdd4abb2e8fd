package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
)

func TestExitCodesAndMessages(t *testing.T) {
	t.Parallel()
	good, bad := configFile(t, ""), configFile(t, "colour = 1\n")
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("pw\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args string
		code int
		want []string // in standard error
	}{
		{"", 64, []string{"no verb given", "next: mailcryptfs --help"}},
		{"unlok alice", 64, []string{`no verb "unlok"`, "next: mailcryptfs unlock"}},
		{"who --colour", 64, []string{"--colour", "next: mailcryptfs who --help"}},
		{"who alice", 64, []string{"takes no argument"}},
		{"enroll", 64, []string{"takes one argument, a user name"}},
		{"unlock a b", 64, []string{"takes one argument"}},
		{"unlock a/../b", 64, []string{"not a valid user name", "alice@example.org"}},
		{"lock", 64, []string{"takes one argument"}},
		{"lock --all alice", 64, []string{"takes no argument"}},
		{"status --user /", 64, []string{"not a valid user name"}},
		{"verify --password-fd 3", 64, []string{"--user"}},
		{"version x", 64, []string{"takes no argument"}},
		{"slot", 64, []string{"slot needs to know what to do", "next: mailcryptfs slot --help"}},
		{"slot lst alice", 64, []string{`slot cannot do "lst"`}},
		{"slot add alice --sheet x.html", 64, []string{"--recovery-code"}},
		{"slot revoke alice", 64, []string{"takes two arguments"}},
		{"recovery", 64, []string{"needs to know what to do"}},
		{"recovery drill /", 64, []string{"not a valid user name"}},
		{"recovery split", 64, []string{"--recovery-key FILE and --to"}},
		{"recovery combine", 64, []string{"takes the files of shares"}},
		{"recovery combine /nonexistent/share", 66, []string{"no such file"}},
		{"recover", 64, []string{"takes one argument"}},
		{"recover alice", 64, []string{"--recovery-key FILE or --recovery-code", "next: mailcryptfs recover --help"}},
		{"recover alice --site-secret", 64, []string{"takes no argument"}},
		{"recover alice --request a --apply b", 64, []string{"exclude each other"}},
		{"recover --approve x", 64, []string{"needs --recovery-key and --answer"}},
		{"recover --approve /nonexistent/r --recovery-key k --answer a", 66, []string{"no such file"}},
		{"rotate", 64, []string{"takes one argument"}},
		{"rotate --all alice", 64, []string{"takes no argument"}},
		{"forget a b", 64, []string{"takes one argument"}},
		{"status --user alice --recovery", 64, []string{"exclude each other"}},
		{"enroll alice --sheet x.html", 64, []string{"--recovery-code"}},
		{"enroll alice --recovery-code --sheet x.pdf", 64, []string{".html"}},
		{"man", 64, []string{"one argument"}},
		{"who --config /nonexistent/c", 78, []string{"no configuration file at /nonexistent/c", "next: mailcryptfs setup"}},
		{"who --config " + bad, 78, []string{"colour: unknown key", "next: correct", "--check-config"}},
		{"serve --check-config --config " + bad, 78, []string{"colour"}},
		{"serve --config " + bad, 78, []string{"colour"}},
		{"who --config " + good, 69, []string{"no daemon answers", "next: systemctl start mailcryptfs"}},
		{"status --config " + good, 69, []string{"no daemon answers"}},
		{"status --user alice --config " + good, 69, []string{"no daemon answers"}},
		{"lock --all --config " + good, 69, []string{"no daemon answers"}},
		{"lock alice --config " + good, 69, []string{"no daemon answers"}},
		{"unlock alice --password-file " + password + " --config " + good, 69, []string{"no daemon answers"}},
		{"enroll alice --password-fd 0 --config " + good, 69, []string{"no daemon answers"}},
		{"serve --config " + good, 78, []string{"site secret", "next: "}},
		{"verify --config " + good, 78, []string{"site secret", "next: "}},
		{"status --recovery --config " + good, 69, []string{"no daemon answers"}},
		{"slot list alice --config " + good, 78, []string{"no daemon answers", "site secret", "recover --site-secret"}},
		{"passwd alice --config " + good, 78, []string{"no daemon answers", "site secret"}},
		{"rotate --all --config " + good, 78, []string{"site secret"}},
		{"forget alice --config " + good, 78, []string{"site secret"}},
		{"slot list alice --site-secret-file " + password + " --config " + good, 77, []string{"not a site secret"}},
		{"slot list alice --store /x --config " + good, 64, []string{"unknown flag"}},
	} {
		t.Run(strings.ReplaceAll(tt.args, "/", "_"), func(t *testing.T) {
			if strings.HasPrefix(tt.args, "serve --config "+good) {
				isolate(t, good, tt.code, tt.want)
				return
			}
			stdout, stderr, code := call(t, strings.Fields(tt.args)...)
			judge(t, stdout, stderr, code, tt.code, tt.want)
		})
	}
}

// isolate runs serve in a mount namespace of its own, since it may mount the keyring before it finds a fault.
func isolate(t *testing.T, configPath string, code int, want []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "serve", "--config", configPath)
	cmd.Env = []string{"RUN_MAILCRYPTFS=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	t.Cleanup(func() { release(t, filepath.Join(filepath.Dir(configPath), "view")) })
	stdout, stderr, got := finish(t, cmd)
	judge(t, stdout, stderr, got, code, want)
}

func judge(t *testing.T, stdout, stderr string, code, wantCode int, want []string) {
	t.Helper()
	if code != wantCode {
		t.Errorf("exit %d, want %d\n%s", code, wantCode, stderr)
	}
	for _, w := range want {
		if !strings.Contains(stderr, w) {
			t.Errorf("standard error lacks %q:\n%s", w, stderr)
		}
	}
	if stdout != "" {
		t.Errorf("a failure printed on standard output: %q", stdout)
	}
}

func TestCheckConfig(t *testing.T) {
	t.Parallel()
	path := configFile(t, "")
	stdout, stderr, code := call(t, "serve", "--check-config", "--config", path)
	if code != 0 || !strings.Contains(stdout, "the configuration is good") || stderr != "" {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("--check-config changed something: %v, %v", entries, err)
	}
}

func TestOthersThanRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root: run contrib/test.sh with sudo")
	}
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	binary, conf := filepath.Join(dir, "mailcryptfs"), filepath.Join(dir, "c.toml")
	// Copied by another process: one that this one starts meanwhile would inherit a descriptor for writing, and no file that
	// somebody has open for that can be executed.
	copied := exec.CommandContext(t.Context(), "install", "-m", "0755", fmt.Sprintf("/proc/%d/exe", os.Getpid()), binary)
	if out, err := copied.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(conf, config.Render(config.Default()), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"serve"}, {"setup"}, {"verify"}} {
		cmd := exec.CommandContext(t.Context(), binary, append(args, "--config", conf)...)
		cmd.Env, cmd.Dir = []string{"RUN_MAILCRYPTFS=1"}, "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if _, stderr, code := finish(t, cmd); code != ui.ExitNoPerm || !strings.Contains(stderr, "run the command as root") {
			t.Errorf("%s: exit %d, %s", args[0], code, stderr)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	stdout, stderr, code := call(t, "version")
	if code != 0 || stderr != "" || !strings.HasPrefix(stdout, "mailcryptfs "+version+"\nstored format 1\n") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
}

func TestRunInProcess(t *testing.T) {
	t.Parallel()
	var out, errOut bytes.Buffer
	if code := run(context.Background(), []string{"version"}, &out, &errOut); code != 0 || errOut.Len() > 0 {
		t.Errorf("exit %d, %s", code, errOut.String())
	}
	if code := run(context.Background(), []string{"version"}, failing{}, &errOut); code != ui.ExitIOErr {
		t.Errorf("a full disk gives exit %d", code)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("no space left") }
