package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// module builds the PAM module once for all tests of a binary.
var module = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(os.Getenv(envInside), "module")
	source, err := filepath.Abs("../../pam/module")
	if err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	if out, err := exec.Command("make", "-C", source, "O="+dir, "module").CombinedOutput(); err != nil {
		return "", fmt.Errorf("the PAM module does not build: %w\n%s", err, out)
	}
	return filepath.Join(dir, "pam_mailcryptfs.so"), nil
})

// Module is the path of the PAM module.
func Module(t testing.TB) string {
	t.Helper()
	path, err := module()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// The common files of PAM that the services shipped include: virtual users first, then those of the system. What the
// machine has for other modules stays out.
var common = map[string]string{
	"auth": "auth [success=2 default=ignore] pam_userdb.so crypt=none db=/etc/mailusers\n" +
		"auth [success=1 default=ignore] pam_unix.so nodelay try_first_pass\n",
	"account": "account [success=2 default=ignore] pam_userdb.so crypt=none db=/etc/mailusers\n" +
		"account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so\n",
	"password": "password [success=1 default=ignore] pam_unix.so obscure sha512 rounds=1000\n",
	"session":  "session [default=1] pam_permit.so\n",
}

// pam writes the machine's PAM services: those that are shipped, and the common files that these include.
func (m *Machine) pam(t testing.TB) {
	t.Helper()
	if err := os.RemoveAll(m.Path("/etc/pam.d")); err != nil {
		t.Fatal(err)
	}
	for kind, lines := range common {
		m.WriteFile(t, "/etc/pam.d/common-"+kind, fmt.Sprintf("%s%s requisite pam_deny.so\n%s required pam_permit.so\n", lines, kind, kind))
	}
	m.WriteFile(t, "/etc/pam.d/other", "auth required pam_deny.so\naccount required pam_deny.so\n")
	const shipped = "contrib/pam-configs/pam.d"
	entries, err := os.ReadDir(filepath.Join("../..", shipped))
	if err != nil || len(entries) == 0 {
		t.Fatalf("%s: %d files, %v", shipped, len(entries), err)
	}
	for _, e := range entries {
		m.Install(t, filepath.Join(shipped, e.Name()), "/etc/pam.d/"+e.Name())
	}
}

// Passwords says who can log in as a virtual user, and with which password. Nobody else hears of a change.
func (m *Machine) Passwords(t testing.TB, passwords map[string]string) {
	t.Helper()
	var text strings.Builder
	for user, password := range passwords {
		text.WriteString(user + "\n" + password + "\n")
	}
	path := m.Path("/etc/mailusers.db")
	fresh := path + ".new"
	cmd := exec.Command("db_load", "-T", "-t", "hash", fresh)
	cmd.Stdin = strings.NewReader(text.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("db_load: %v: %s", err, out)
	}
	if err := os.Rename(fresh, path); err != nil {
		t.Fatal(err)
	}
}

// AddUser makes a user of the system, with a group of the same name and number; without a password nobody can log in.
func (m *Machine) AddUser(t testing.TB, name string, id int, home, password string) {
	t.Helper()
	for file, line := range map[string]string{
		"passwd": fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh\n", name, id, id, home),
		"group":  fmt.Sprintf("%s:x:%d:\n", name, id),
		"shadow": fmt.Sprintf("%s:!:19000:0:99999:7:::\n", name),
	} {
		f, err := os.OpenFile(m.Path("/etc/"+file), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteString(line)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if password == "" {
		return
	}
	cmd := m.Command("chpasswd", "-c", "SHA512", "-s", "1000") // without PAM
	cmd.Stdin = strings.NewReader(name + ":" + password + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("chpasswd: %v: %s", err, out)
	}
}

// Passwd changes a user's password by the verb: the user's key is wrapped anew.
func (s *Site) Passwd(t testing.TB, user, old, fresh string) Result {
	t.Helper()
	return s.CallWith(t, [][]byte{[]byte(old), []byte(fresh)}, "passwd", user, "--old-fd", "3", "--new-fd", "4")
}
