package cyrus

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// root is a Debian system of its own in which Cyrus runs: the one that install.sh has made, read-only, with other
// directories mounted over what changes.
type root struct {
	dir      string
	uid, gid int // Cyrus' own
}

// base is the directory that install.sh has made.
func base() string {
	if dir := os.Getenv("CYRUS_ROOT"); dir != "" {
		return dir
	}
	return "/var/cache/mailcryptfs-test/cyrus"
}

// newRoot makes a root. It is gone when the test ends.
func newRoot(t testing.TB) *root {
	t.Helper()
	if _, err := os.Stat(filepath.Join(base(), "made")); err != nil {
		t.Fatalf("integration/cyrus/install.sh makes what is missing: %v", err)
	}
	dir := harness.Dir(t)
	r := &root{dir: filepath.Join(dir, "root")}
	must(t, os.Mkdir(r.dir, 0o755))
	r.mount(t, base(), "/", "", unix.MS_BIND)
	must(t, unix.Mount("", r.dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	modules, err := filepath.Glob(filepath.Join(base(), "usr/lib/*/security"))
	if err != nil || len(modules) != 1 {
		t.Fatalf("PAM's directory in %s: %q %v", base(), modules, err)
	}
	security := strings.TrimPrefix(modules[0], base())
	for _, path := range []string{"/etc", "/var/lib/cyrus", security} { // what is changed is a copy
		duplicate := filepath.Join(dir, filepath.Base(path))
		harness.Run(t, "cp", "-a", filepath.Join(base(), path), duplicate)
		r.mount(t, duplicate, path, "", unix.MS_BIND)
	}
	r.mount(t, "tmpfs", "/dev", "mode=0755", 0)
	r.mount(t, "proc", "/proc", "", 0)
	for _, d := range []string{"/run", "/tmp", "/srv", "/var/spool", "/dev/shm"} {
		must(t, os.MkdirAll(r.path(d), 0o755))
		r.mount(t, "tmpfs", d, "mode=0755", 0)
	}
	for name, minor := range map[string]int{"null": 3, "zero": 5, "random": 8, "urandom": 9} {
		must(t, unix.Mknod(r.path("/dev/"+name), unix.S_IFCHR, int(unix.Mkdev(1, uint32(minor)))))
		must(t, os.Chmod(r.path("/dev/"+name), 0o666))
	}
	for _, d := range []string{"/tmp", "/dev/shm"} {
		must(t, os.Chmod(r.path(d), 0o777|os.ModeSticky))
	}
	r.module(t, security)
	r.ids(t)
	return r
}

// mount puts something over a path of the root until the test ends.
func (r *root) mount(t testing.TB, what, path, data string, flags uintptr) {
	t.Helper()
	kind := what
	if flags&unix.MS_BIND != 0 {
		kind = ""
	}
	must(t, unix.Mount(what, r.path(path), kind, flags, data))
	t.Cleanup(func() {
		if err := unix.Unmount(r.path(path), unix.MNT_DETACH); err != nil {
			t.Errorf("cannot unmount %s: %v", path, err)
		}
	})
}

// path is where a path of the root lies outside it.
func (r *root) path(path string) string { return filepath.Join(r.dir, path) }

// module builds the PAM module and puts it where PAM looks for it.
func (r *root) module(t testing.TB, security string) {
	t.Helper()
	source, err := filepath.Abs("../../pam/module")
	must(t, err)
	out := harness.Dir(t)
	harness.Run(t, "make", "-C", source, "O="+out, "module")
	harness.Run(t, "install", "-m", "0644", filepath.Join(out, "pam_mailcryptfs.so"), r.path(security))
}

// ids finds out who Cyrus is in the root.
func (r *root) ids(t testing.TB) {
	t.Helper()
	passwd, err := os.ReadFile(r.path("/etc/passwd"))
	must(t, err)
	for _, line := range strings.Split(string(passwd), "\n") {
		if f := strings.Split(line, ":"); f[0] == "cyrus" {
			_, err := fmt.Sscan(f[2]+" "+f[3], &r.uid, &r.gid)
			must(t, err)
		}
	}
	if r.uid == 0 {
		t.Fatal("no user cyrus")
	}
}

// own makes directories that belong to Cyrus.
func (r *root) own(t testing.TB, paths ...string) {
	t.Helper()
	for _, p := range paths {
		must(t, os.MkdirAll(r.path(p), 0o750))
		must(t, os.Chown(r.path(p), r.uid, r.gid))
	}
}

// write writes a file that everybody can read.
func (r *root) write(t testing.TB, path, text string) {
	t.Helper()
	must(t, os.WriteFile(r.path(path), []byte(text), 0o644))
}

// passwords sets login passwords, of new users too. The PAM module is not told.
func (r *root) passwords(t testing.TB, users map[string]string) {
	t.Helper()
	passwd, err := os.ReadFile(r.path("/etc/passwd"))
	must(t, err)
	shadow, err := os.ReadFile(r.path("/etc/shadow"))
	must(t, err)
	var secrets bytes.Buffer
	for user, password := range users {
		fmt.Fprintf(&secrets, "%s:%s\n", user, password)
		if bytes.Contains(passwd, []byte("\n"+user+":")) {
			continue
		}
		passwd = fmt.Appendf(passwd, "%s:x:%d:65534::/nonexistent:/usr/sbin/nologin\n", user, 3000+len(passwd))
		shadow = fmt.Appendf(shadow, "%s:*:19000::::::\n", user)
	}
	r.write(t, "/etc/passwd", string(passwd))
	must(t, os.WriteFile(r.path("/etc/shadow"), shadow, 0o600))
	cmd := r.command(t, "chpasswd", "-c", "SHA512", "-s", "1000")
	cmd.Stdin = &secrets
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("chpasswd: %v: %s", err, out)
	}
}

// command is a program of the root.
func (r *root) command(t testing.TB, argv ...string) *exec.Cmd {
	t.Helper()
	return exec.Command("chroot", append([]string{r.dir, "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}, argv...)...)
}
