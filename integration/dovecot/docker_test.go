package dovecot

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
)

// What docker-mailserver 15 has of Dovecot's configuration, as far as the files in contrib/docker-mailserver touch it.
const (
	dockerAuth = `
passdb {
  driver = passwd-file
  mechanisms = plain login
  args = scheme=SHA512-CRYPT username_format=%u /etc/dovecot/users
}

userdb {
  driver = passwd-file
  args = username_format=%u /etc/dovecot/users
  default_fields = uid=docker gid=docker home=/var/mail/%d/%n/home/
}
`
	dockerMail = "mail_home = /var/mail/%d/%n/home/\nmail_location = maildir:/var/mail/%d/%n\nmail_privileged_group = docker\nmaildir_stat_dirs = yes\n"
)

// dockerMailserver sets Dovecot up as docker-mailserver does, lets the script that is shipped change it, twice, and returns
// what the configuration includes.
func (h *host) dockerMailserver(t testing.TB) string {
	t.Helper()
	h.m.AddUser(t, "docker", mailUID, "/nonexistent", "")
	h.m.WriteFile(t, "/etc/dovecot/conf.d/auth-passwdfile.inc", dockerAuth)
	h.m.WriteFile(t, "/srv/mailcryptfs/README", "")
	must(t, os.Symlink(h.mail, h.m.Path("/srv/mailcryptfs/view")))
	must(t, os.Symlink("mailcryptfs", h.m.Path("/run/mailcryptfs-pam")))
	h.m.Run(t, "sh", "-ec", `mkdir /run/upper /run/work
		mount -t overlay -o lowerdir=/var,upperdir=/run/upper,workdir=/run/work overlay /var
		find /var/mail -mindepth 1 -delete
		mkdir -p /var/spool/mailcryptfs /var/mail/example.org/alice/home
		chmod 1777 /var/spool/mailcryptfs
		mv /usr/local/sbin/mailcryptfs /usr/local/ # it runs outside`)
	h.m.Install(t, "contrib/docker-mailserver/user-patches.sh", "/run/user-patches.sh")
	for range 2 {
		h.m.Run(t, "bash", "/run/user-patches.sh")
	}
	if target, err := h.m.Command("readlink", "/var/mail").Output(); err != nil || strings.TrimSpace(string(target)) != "/srv/mailcryptfs/view" {
		t.Fatalf("/var/mail: %q %v", target, err)
	}
	return dockerMail + "!include /etc/dovecot/conf.d/auth-passwdfile.inc\n!include /etc/dovecot/conf.d/99-mailcryptfs.conf\n"
}

// TestDockerMailserver has a first login, and a second one, with the passwords in docker-mailserver's file.
func TestDockerMailserver(t *testing.T) {
	t.Parallel()
	const user = "alice@example.org"
	_, h := newSite(t, options{users: []string{user}, docker: true, auto: true})
	h.deliver(t, client.Message("before the first login", 5), user)
	for _, subject := range []string{"one", "two"} {
		h.unlock(t, user)
		h.lock(t, user)
		h.deliver(t, client.Message(subject, 5), user)
		h.sealed(t, user)
		h.refused(t, user)
	}
	if c, err := h.tryLogin(t, user, "wrong"); err == nil {
		t.Errorf("a login with a wrong password: %v", c)
	}
	if h.isUnlocked(t, user) {
		t.Error("a wrong password unlocks")
	}
	h.unlock(t, user)
	if n := len(h.bodies(t, user)); n != 3 {
		t.Errorf("%d messages, want 3", n)
	}
	h.judgeLog(t, nil)
}

// TestCompose reads the compose files, and checks that everything they mount is what the script expects.
func TestCompose(t *testing.T) {
	t.Parallel()
	read := func(name string) string {
		text, err := os.ReadFile("../../contrib/docker-mailserver/" + name)
		must(t, err)
		return string(text)
	}
	script, config := read("user-patches.sh"), read("mailcryptfs.toml")
	for _, name := range []string{"compose.yaml", "compose.inside.yaml"} {
		out, err := yamlKeys("../../contrib/docker-mailserver/" + name)
		if err != nil || !strings.Contains(out, "mailserver") {
			t.Errorf("%s: %s %v", name, out, err)
		}
	}
	compose := read("compose.yaml")
	for _, path := range []string{"/srv/mailcryptfs", "/run/mailcryptfs-pam", "/var/spool/mailcryptfs"} {
		if !strings.Contains(compose, path) || !strings.Contains(script, path) {
			t.Errorf("%s is not in the compose file and the script", path)
		}
	}
	for _, path := range []string{"/srv/mailcryptfs", "/run/mailcryptfs-pam", "/run/mailcryptfs-dovecot"} {
		if !strings.Contains(compose, path) || !strings.Contains(config, path) {
			t.Errorf("%s is not in the compose file and mailcryptfs.toml", path)
		}
	}
}

// yamlKeys parses a YAML file and returns the names of its services.
func yamlKeys(path string) (string, error) {
	out, err := exec.Command("python3", "-c", "import sys, yaml; print(*yaml.safe_load(open(sys.argv[1]))['services'])", path).CombinedOutput()
	return string(out), err
}
