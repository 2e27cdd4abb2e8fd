package dovecot

import (
	"os"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/session/imaphost"
)

// conf is what an instance beside the system's needs, and the features that are tested. Everything else is included as it
// is shipped.
const conf = imaphost.Beside + `
protocols = imap pop3 lmtp
service pop3-login {
  inet_listener pop3 {
    port = 0
  }
  inet_listener pop3s {
    port = 0
  }
  unix_listener pop3 {
    mode = 0600
  }
}
# Sessions of an administrator: no password of the user, and so no key.
auth_master_user_separator = *
passdb {
  driver = passwd-file
  args = /etc/dovecot/masters
  master = yes
}
mail_plugins = quota @plugins@
protocol imap {
  mail_plugins = quota imap_quota @plugins@
}
protocol lmtp {
  mail_plugins = quota sieve @plugins@
}
plugin {
  quota = maildir:User quota
  quota_rule = *:storage=1G
  sieve = file:~/sieve;active=~/.dovecot.sieve
}
`

// configuration puts the files that are shipped at their places, and returns the one that includes them.
func (h *host) configuration(t testing.TB) string {
	t.Helper()
	text := strings.NewReplacer("@dir@", h.dir, "@plugins@", h.plugins).Replace(conf)
	install := func(source, path string) {
		h.m.Install(t, "contrib/dovecot/"+source, path)
		text += "!include " + path + "\n"
	}
	if h.docker {
		return text + h.dockerMailserver(t)
	}
	const confd = "/etc/dovecot/conf.d/"
	auth := "2.3/auth-virtual.conf.ext"
	switch {
	case h.system:
		auth = "2.3/auth-system.conf.ext"
	case h.chained:
		auth = "2.3/auth-chain.conf.ext"
		h.m.Install(t, "contrib/dovecot/pam.d-mailcryptfs", "/etc/pam.d/mailcryptfs")
	}
	install(auth, confd+"auth-mailcryptfs.conf.ext")
	if h.cached {
		h.cacheLogins(t, confd+"auth-mailcryptfs.conf.ext")
	}
	install("2.3/mailcryptfs.conf", confd+"99-mailcryptfs.conf")
	if h.sdbox {
		install("2.3/sdbox.conf", confd+"99-mailcryptfs-sdbox.conf")
	}
	if h.byDomain() {
		text += "mail_home = /srv/mail/%d/%n\n"
	}
	if h.register && h.site != nil {
		install("2.3/post-login.conf", confd+"99-mailcryptfs-post-login.conf")
		h.m.Install(t, "contrib/dovecot/post-login.sh", "/usr/local/lib/mailcryptfs/post-login.sh")
	}
	return text + h.conf
}

// cacheLogins makes Dovecot remember passwords, which the files that are shipped advise against.
func (h *host) cacheLogins(t testing.TB, path string) {
	t.Helper()
	text, err := os.ReadFile(h.m.Path(path))
	must(t, err)
	h.m.WriteFile(t, path, strings.ReplaceAll(string(text), "\n  args = %s", "\n  args = cache_key=%u %s"))
	h.conf += "auth_cache_size = 1M\n"
}
