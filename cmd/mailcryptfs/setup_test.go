package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/mountpoint"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
)

func release(t *testing.T, view string) {
	t.Helper()
	if err := mountpoint.Release(view); err != nil {
		t.Error(err)
	}
}

// place is a directory in which setup may work.
type place struct {
	dir   string
	flags []string
}

func newPlace(t *testing.T) place {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root: run contrib/test.sh with sudo")
	}
	dir := t.TempDir()
	t.Cleanup(func() { release(t, dir+"/view") })
	return place{dir, []string{"--store", dir + "/lib/store", "--view", dir + "/view", "--site-secret", dir + "/etc/site.secret",
		"--keyring", dir + "/run/keyring", "--control", dir + "/run/control.sock"}}
}

// setup runs the verb in a mount namespace of its own: the keyring's tmpfs goes with it.
func (p place) setup(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", append([]string{"setup", "--config", p.dir + "/etc/mailcryptfs.toml"}, args...)...)
	cmd.Env = []string{"RUN_MAILCRYPTFS=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	return finish(t, cmd)
}

func (p place) good(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, code := p.setup(t, args...)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	return stdout
}

func (p place) read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSetup(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	stdout := p.good(t, p.flags...)
	for _, want := range []string{"made the site secret", "made the store", "made the configuration", "Next steps"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("lacks %q:\n%s", want, stdout)
		}
	}
	for path, mode := range map[string]os.FileMode{
		"etc/site.secret": 0o400, "etc/mailcryptfs.toml": 0o644, "lib": os.ModeDir | 0o700, "lib/store": os.ModeDir | 0o755,
		"lib/store/.mailcryptfs": os.ModeDir | 0o700, "lib/store/.mailcryptfs/store.toml": 0o600, "view": os.ModeDir,
	} {
		info, err := os.Stat(filepath.Join(p.dir, path))
		if err != nil {
			t.Error(err)
		} else if got := info.Mode(); got != mode {
			t.Errorf("%s has mode %v, want %v", path, got, mode)
		}
	}
	secret, conf, record := p.read(t, "etc/site.secret"), p.read(t, "etc/mailcryptfs.toml"), p.read(t, "lib/store/.mailcryptfs/store.toml")
	if bytes.Contains([]byte(stdout), bytes.TrimSpace(secret)) {
		t.Error("the site secret was printed")
	}

	// Again: from the configuration file, with nothing left to do and nothing overwritten.
	if out := p.good(t); !strings.Contains(out, "everything was there already") {
		t.Errorf("second run: %s", out)
	}
	if _, stderr, code := p.setup(t, p.flags...); code != ui.ExitCantCreate || !strings.Contains(stderr, "not overwritten") {
		t.Errorf("flags against a configuration: exit %d, %s", code, stderr)
	}
	for name, before := range map[string][]byte{"etc/site.secret": secret, "etc/mailcryptfs.toml": conf, "lib/store/.mailcryptfs/store.toml": record} {
		if !bytes.Equal(p.read(t, name), before) {
			t.Errorf("%s was overwritten", name)
		}
	}
	if _, stderr, code := call(t, "serve", "--check-config", "--config", p.dir+"/etc/mailcryptfs.toml"); code != 0 {
		t.Errorf("setup wrote a configuration that serve refuses: %s", stderr)
	}
}

func TestSetupKeepsSecretAndStoreTogether(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.good(t, p.flags...)
	secret := filepath.Join(p.dir, "etc/site.secret")
	if err := os.Rename(secret, secret+".away"); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := p.setup(t); code != ui.ExitConfig || !strings.Contains(stderr, "restore it from its copy") {
		t.Errorf("secret missing: exit %d, %s", code, stderr)
	}
	if _, err := os.Lstat(secret); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a second secret was made for the store: %v", err)
	}
	other := newPlace(t)
	other.good(t, other.flags...)
	if err := os.WriteFile(secret, other.read(t, "etc/site.secret"), 0o400); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := p.setup(t); code != ui.ExitConfig || !strings.Contains(stderr, "site secret that this store was made with") {
		t.Errorf("foreign secret: exit %d, %s", code, stderr)
	}
}

func TestSetupRefuses(t *testing.T) {
	t.Parallel()
	t.Run("store that is full of something else", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t)
		if err := errors.Join(os.MkdirAll(p.dir+"/lib/store", 0o755), os.WriteFile(p.dir+"/lib/store/old mail", nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, stderr, code := p.setup(t, p.flags...); code != ui.ExitCantCreate || !strings.Contains(stderr, "--adopt") {
			t.Errorf("exit %d, %s", code, stderr)
		}
		if _, err := os.Lstat(p.dir + "/etc/mailcryptfs.toml"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a configuration was left: %v", err)
		}
		p.good(t, append(p.flags, "--adopt")...)
	})
	t.Run("mount point that is not empty", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t)
		if err := errors.Join(os.Mkdir(p.dir+"/view", 0o755), os.WriteFile(p.dir+"/view/mail", nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, stderr, code := p.setup(t, p.flags...); code != ui.ExitConfig || !strings.Contains(stderr, "not empty") {
			t.Errorf("exit %d, %s", code, stderr)
		}
	})
	t.Run("flags that cannot work", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t)
		if _, stderr, code := p.setup(t, append(p.flags, "--user", "%d")...); code != ui.ExitConfig || !strings.Contains(stderr, "names no user") {
			t.Errorf("exit %d, %s", code, stderr)
		}
		if entries, err := os.ReadDir(p.dir); err != nil || len(entries) != 0 {
			t.Errorf("something was made: %v, %v", entries, err)
		}
	})
}

func TestSetupRecovery(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	key := p.dir + "/recovery.key"
	stdout, stderr, code := p.setup(t, append(p.flags, "--recovery", key)...)
	if code != 0 || !strings.Contains(stdout, "made the recovery key age1pq1") || !strings.Contains(stdout, "Next steps") {
		t.Fatalf("exit %d: %s%s", code, stdout, stderr)
	}
	// The test's directory is a disk of this machine, or its memory: both deserve a word.
	if !strings.Contains(stderr, "warning: "+key+" lies ") {
		t.Errorf("no warning: %s", stderr)
	}
	private := p.read(t, "recovery.key")
	if info, err := os.Stat(key); err != nil || info.Mode() != 0o600 || !bytes.Contains(private, []byte("\nAGE-SECRET-KEY-PQ-1")) {
		t.Errorf("%v, %v", info, err)
	}
	conf := p.read(t, "etc/mailcryptfs.toml")
	if bytes.Contains(conf, []byte("SECRET")) || !bytes.Contains(conf, []byte("recovery = \"required\"\n")) || !bytes.Contains(conf, []byte("recovery_recipients = [\"age1pq1")) {
		t.Errorf("%s", conf)
	}
	escrow := p.read(t, "lib/store/.mailcryptfs/site.age")
	if !bytes.HasPrefix(escrow, []byte("-----BEGIN AGE ENCRYPTED FILE-----")) {
		t.Errorf("%.100s", escrow)
	}
	if _, stderr, code := p.setup(t, "--recovery", key); code != ui.ExitCantCreate || !strings.Contains(stderr, "not overwritten") {
		t.Errorf("over an old key: exit %d, %s", code, stderr)
	}
	// A second one, on standard output: nothing but the key may be there.
	stdout, stderr, code = p.setup(t, "--recovery", "-", "--classic")
	if code != 0 || !strings.HasPrefix(stdout, "# public key: age1") || strings.Contains(stdout, "made") || strings.Contains(stderr, "SECRET") {
		t.Errorf("exit %d: %q, %q", code, stdout, stderr)
	}
	if again := p.read(t, "etc/mailcryptfs.toml"); bytes.Count(again, []byte("\"age1")) != 2 {
		t.Errorf("%s", again)
	}
	if !bytes.Equal(p.read(t, "recovery.key"), private) {
		t.Error("the first key was overwritten")
	}
	if _, stderr, code := call(t, "serve", "--check-config", "--config", p.dir+"/etc/mailcryptfs.toml"); code != 0 {
		t.Errorf("setup wrote a configuration that serve refuses: %s", stderr)
	}
}
