package pam_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestProfile checks that the profile for pam-auth-update is off by default, and puts lines in when it is turned on.
func TestProfile(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.copy("/usr/share/pam-configs", "profiles")
	s.copy("/var/lib/pam", "state")
	s.copy("/var/cache/debconf", "debconf")
	s.copy("../../contrib/pam-configs/mailcryptfs", "profiles/mailcryptfs")
	if err := os.RemoveAll(filepath.Join(s.dir, "etc/pam.d")); err != nil {
		t.Fatal(err)
	}
	s.copy("/etc/pam.d", "etc/pam.d")
	// What pam-auth-update would change outside /etc is private as well.
	update := func(options string) {
		t.Helper()
		out, err := s.run("", "sh", "-ec", `mount -n --bind "$1/profiles" /usr/share/pam-configs
			mount -n --bind "$1/state" /var/lib/pam
			mount -n --bind "$1/debconf" /var/cache/debconf
			DEBIAN_FRONTEND=noninteractive pam-auth-update --package `+options, "sh", s.dir)
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	mentions := func() int {
		t.Helper()
		n := 0
		for _, kind := range []string{"auth", "account", "password", "session"} {
			content, err := os.ReadFile(filepath.Join(s.dir, "etc/pam.d/common-"+kind))
			if err != nil {
				t.Fatal(err)
			}
			n += strings.Count(string(content), kind+"\toptional\tpam_mailcryptfs.so")
		}
		return n
	}
	update("")
	if n := mentions(); n != 0 {
		t.Errorf("%d lines by default", n)
	}
	update("--enable mailcryptfs")
	if n := mentions(); n != 3 {
		t.Errorf("%d lines when turned on, want 3", n)
	}
	update("--disable mailcryptfs")
	if n := mentions(); n != 0 {
		t.Errorf("%d lines when turned off", n)
	}
}

// copy copies a file or tree of the machine into the surroundings.
func (s *site) copy(from, to string) {
	s.t.Helper()
	content, err := os.ReadFile(from)
	if err == nil {
		s.write(to, string(content))
		return
	}
	if err := os.CopyFS(filepath.Join(s.dir, to), os.DirFS(from)); err != nil {
		s.t.Fatal(err)
	}
}
