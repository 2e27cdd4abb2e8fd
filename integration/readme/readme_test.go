package readme

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, nil)) }

// root is the checkout.
const root = "../.."

// testCommand is the one command that is not run: it would run this test.
const testCommand = "sudo contrib/test.sh"

// blocks returns the fenced blocks of README.md in a language.
func blocks(t *testing.T, language string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		if m[1] == language {
			found = append(found, m[2])
		}
	}
	return found
}

func TestConfigurationExamples(t *testing.T) {
	examples := blocks(t, "toml")
	if len(examples) == 0 {
		t.Fatal("README.md has no configuration example")
	}
	for _, example := range examples {
		path := filepath.Join(t.TempDir(), "mailcryptfs.toml")
		if err := os.WriteFile(path, []byte(example), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(harness.Binary(t), "serve", "--check-config", "--config", path).CombinedOutput(); err != nil {
			t.Errorf("%v: %s\n%s", err, out, example)
		}
	}
}

// TestCommands runs every shell command of README.md, in order, on a machine that looks like this one but forgets
// everything afterwards; twice, since people run things twice; and then uninstalls.
func TestCommands(t *testing.T) {
	overlay(t, "/etc", "/usr/local", "/srv", "/var", "/run", "/root")
	var script strings.Builder
	script.WriteString("set -eux\nsudo() { \"$@\"; }\nPS4='@ '\nexport PATH=/usr/local/sbin:$PATH\n")
	commands := strings.Join(blocks(t, "sh"), "")
	if !strings.Contains(commands, testCommand) || !strings.Contains(commands, "contrib/quickstart.sh") {
		t.Fatalf("README.md lacks a set-up command:\n%s", commands)
	}
	script.WriteString(strings.ReplaceAll(commands, testCommand, ": "+testCommand))
	script.WriteString("sudo contrib/quickstart.sh\nsudo contrib/uninstall.sh\n")

	kept := []string{"/etc/mailcryptfs/mailcryptfs.toml", "/etc/mailcryptfs/site.secret", "/var/lib/mailcryptfs/store"}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	out, err := onTerminal(ctx, t, script.String(), "a password of alice")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(out, "a password of alice") {
		t.Error("the terminal echoed a password")
	}
	for _, want := range []string{
		"alice@example.org is enrolled", "alice@example.org is unlocked", "alice@example.org is locked", "the configuration is good",
		"Permission denied", "all three messages can be read", "Done: mailcryptfs is installed", "Removed the program",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the commands did not print %q:\n%s", want, out)
		}
	}
	for _, path := range kept {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("uninstalling removed something that it must not: %v", err)
		}
	}
	for _, path := range []string{"/usr/local/sbin/mailcryptfs", "/usr/local/share/man/man1/mailcryptfs.1", "/etc/systemd/system/mailcryptfs.service"} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("uninstalling left %s: %v", path, err)
		}
	}
}

// overlay puts a layer in memory over directories, in the mount namespace of this test binary. The store of the set-up
// command gets a file system of its own: a layer is no place to lock files on.
func overlay(t *testing.T, dirs ...string) {
	t.Helper()
	base := t.TempDir()
	for _, dir := range dirs {
		upper, work := filepath.Join(base, dir, "upper"), filepath.Join(base, dir, "work")
		if err := errors.Join(os.MkdirAll(upper, 0o755), os.MkdirAll(work, 0o755)); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("overlay", dir, "overlay", 0, "lowerdir="+dir+",upperdir="+upper+",workdir="+work); err != nil {
			t.Fatalf("overlay on %s: %v", dir, err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
				t.Errorf("overlay on %s: %v", dir, err)
			}
		})
	}
	if err := errors.Join(os.MkdirAll("/var/lib/mailcryptfs", 0o700), syscall.Mount("tmpfs", "/var/lib/mailcryptfs", "tmpfs", 0, "mode=0700")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount("/var/lib/mailcryptfs", syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// TestLinks checks that what README.md links to is there.
func TestLinks(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	links := regexp.MustCompile(`\]\(([^)#]+)\)`).FindAllStringSubmatch(string(text), -1)
	if len(links) == 0 {
		t.Fatal("no links found")
	}
	for _, l := range links {
		if _, err := os.Stat(filepath.Join(root, l[1])); err != nil {
			t.Errorf("broken link: %v", err)
		}
	}
	// The tree that README.md shows is the tree that there is.
	for _, tree := range blocks(t, "") {
		if !strings.Contains(tree, "cmd/mailcryptfs/") {
			continue
		}
		for _, line := range strings.Split(strings.TrimSpace(tree), "\n") {
			if dir := strings.Fields(line)[0]; !slices.Contains([]string{"|", "+"}, dir) {
				if _, err := os.Stat(filepath.Join(root, dir)); err != nil {
					t.Errorf("the tree shows what is not there: %v", err)
				}
			}
		}
	}
}
