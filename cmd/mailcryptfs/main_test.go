package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/manpage"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
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

// allVerbs returns the root and every visible verb at any depth.
func allVerbs() []*cobra.Command { return below(newRoot(&app{})) }

func below(root *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{root}
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			all = append(all, below(c)...)
		}
	}
	return all
}

func TestHelp(t *testing.T) {
	t.Parallel()
	verbs := allVerbs()
	if len(verbs) < 10 {
		t.Fatalf("%d verbs", len(verbs))
	}
	for _, c := range verbs {
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		stdout, stderr, code := call(t, args...)
		if code != 0 || stderr != "" {
			t.Errorf("%q: exit %d, %s", args, code, stderr)
		}
		for _, want := range []string{c.Long, "Usage:", "Examples:\n" + c.Example, "Exit status:\n" + c.Annotations[exitKey], "64  "} {
			if !strings.Contains(stdout, want) {
				t.Errorf("%q: help lacks %q:\n%s", args, want, stdout)
			}
		}
		for _, line := range strings.Split(c.Long, "\n") {
			if len(line) > 110 {
				t.Errorf("%q: line of %d characters: %s", args, len(line), line)
			}
		}
	}
}

// TestExamplesParse checks that every example in a help text is a command line that exists.
func TestExamplesParse(t *testing.T) {
	t.Parallel()
	for _, c := range allVerbs() {
		for _, line := range strings.Split(c.Example, "\n") {
			fields := strings.Fields(line)
			// What follows is for the shell, or a remark in a second column.
			if i := slices.IndexFunc(fields, func(f string) bool { return f == "|" || strings.HasPrefix(f, "3<") }); i >= 0 {
				fields = fields[:i]
			}
			if len(fields) < 2 {
				t.Errorf("%s: example %q", c.Name(), line)
				continue
			}
			verb, rest, err := newRoot(&app{}).Find(fields[1:])
			if err != nil || fields[0] != "mailcryptfs" {
				t.Errorf("%s: example %q: %v", c.Name(), line, err)
				continue
			}
			if err := verb.ParseFlags(rest); err != nil {
				t.Errorf("%s: example %q: %v", c.Name(), line, err)
			}
		}
	}
}

func TestManualPagesMatchHelp(t *testing.T) {
	t.Parallel()
	const dir = "../../contrib/man"
	want := map[string]bool{}
	for _, page := range manpage.Tree(newRoot(&app{}), exitKey) {
		want[page.File] = true
		have, err := os.ReadFile(filepath.Join(dir, page.File))
		if err != nil || !bytes.Equal(have, page.Text) {
			t.Errorf("%s does not match --help (%v): run mailcryptfs man contrib/man", page.File, err)
		}
	}
	have, err := filepath.Glob(dir + "/mailcryptfs*.1")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range have {
		if !want[filepath.Base(path)] {
			t.Errorf("%s documents a verb that does not exist", path)
		}
	}
}

// TestConfigManualNamesEveryKey checks keys and defaults of mailcryptfs.toml(5), in both directions.
func TestConfigManualNamesEveryKey(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../contrib/man/mailcryptfs.toml.5")
	if err != nil {
		t.Fatal(err)
	}
	defaults := strings.Split(string(config.Render(config.Default())), "\n")
	var found int
	for _, line := range strings.Split(string(text), "\n") {
		key, value, ok := strings.Cut(strings.ReplaceAll(line, `\-`, "-"), `\fR = `)
		if !ok {
			continue
		}
		found++
		want := strings.TrimPrefix(key, `\fB`) + " = " + value
		if !strings.Contains("\n"+strings.Join(defaults, "\n")+"\n", "\n"+want+"\n") {
			t.Errorf("the manual says %q, which is no default", want)
		}
	}
	if found != len(config.Keys()) {
		t.Errorf("the manual describes %d keys, there are %d", found, len(config.Keys()))
	}
}

// TestUnit keeps options out of the systemd unit that would give the service a mount namespace of its own.
func TestUnit(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../contrib/systemd/mailcryptfs.service")
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, line := range strings.Split(string(text), "\n") {
		key, value, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		settings[key] = value
		for _, bad := range []string{"Protect", "Private", "ReadOnly", "ReadWrite", "Inaccessible", "NoExec", "Exec" + "Paths", "Bind", "Root",
			"Mount", "Temporary", "DynamicUser", "Extension", "Runtime", "State", "PAMName", "RestrictSUIDSGID"} {
			if strings.HasPrefix(key, bad) {
				t.Errorf("%s gives the service a mount namespace, or takes modes from mail: the view would not reach the mail server", line)
			}
		}
	}
	for key, want := range map[string]string{"Type": "notify", "Restart": "always", "ExecStart": "/usr/local/sbin/mailcryptfs serve", "LimitCORE": "0"} {
		if settings[key] != want {
			t.Errorf("%s=%s, want %s", key, settings[key], want)
		}
	}
	for _, code := range []string{"64", "77", "78"} {
		if !strings.Contains(settings["RestartPreventExitStatus"], code) {
			t.Errorf("exit %s would be tried again for ever", code)
		}
	}
}

func TestCompletions(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if stdout, stderr, code := call(t, "completion", shell); code != 0 || !strings.Contains(stdout, "mailcryptfs") {
			t.Errorf("%s: exit %d, %s", shell, code, stderr)
		}
	}
}

// TestNoVerbTakesASecret looks at the flags of all verbs: none may carry a password on the command line.
func TestNoVerbTakesASecret(t *testing.T) {
	t.Parallel()
	for _, c := range allVerbs() {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			for _, word := range []string{"password", "old", "new", "code", "secret", "key"} {
				taken := strings.Contains(f.Name, word) && !strings.HasSuffix(f.Name, "-fd") && !strings.HasSuffix(f.Name, "-file")
				if taken && f.Value.Type() != "bool" && !slices.Contains([]string{"recovery-key", "site-secret", "keyring"}, f.Name) {
					t.Errorf("%s has the flag --%s, which may take a secret", c.Name(), f.Name)
				}
			}
		})
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
