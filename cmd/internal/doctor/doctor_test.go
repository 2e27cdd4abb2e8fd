package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
)

// good is a machine on which nothing is wrong, but that the fixture's view is not mounted and all lies on one disk.
var good = map[string]string{
	"/etc/postfix/main.cf":                      "mail_spool_directory = /srv/mail/\n",
	"/etc/postfix/master.cf":                    "# services\nlocal     unix  -       n       n       -       -       local\n  -o soft_bounce=yes\nvirtual unix - n n - - virtual\n",
	"/proc/swaps":                               "Filename Type Size Used Priority\n/dev/zram0 partition 1 0 1\n/dev/mapper/swap partition 1 0 -2\n",
	"/sys/class/block/dm-3/dm/uuid":             "CRYPT-PLAIN-swap\n",
	"/proc/sys/kernel/core_pattern":             "|/bin/false\n",
	"/proc/mounts":                              "/dev/sda1 / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n",
	"/etc/mailcryptfs/mailcryptfs.toml":         "",
	"/etc/pam.d/common-auth":                    "auth [success=1 default=ignore] pam_unix.so nullok\nauth requisite pam_deny.so\nauth required pam_permit.so\n",
	"/etc/pam.d/common-account":                 "account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so\naccount requisite pam_deny.so\naccount required pam_permit.so\n",
	"/etc/pam.d/dovecot":                        "#%PAM-1.0\n@include common-auth\nauth optional pam_mailcryptfs.so\n@include common-account\naccount  optional  pam_mailcryptfs.so\n",
	"/etc/systemd/system/mailcryptfs.service":   "[Service]\nExecStart=/usr/local/sbin/mailcryptfs serve\n# ProtectSystem=strict\nPrivateTmp=no\n",
	"/var/lib/mailcryptfs/store/mc1=AAAA/mc1=B": "sealed",
	"/var/lib/mailcryptfs/store/.mailcryptfs/x": "record",
	"/run/mailcryptfs/keyring/alice":            "",
	"/etc/default/saslauthd":                    "START=yes\nMECHANISMS=\"pam\"\nOPTIONS=\"-m /var/run/saslauthd -n 5\"\n",
	"/root/notes":                               strings.Repeat("nothing of interest\n", 10),
}

const doveconfGood = `# 2.3.19.1: /etc/dovecot/dovecot.conf
mail_home = /srv/mail/%d/%n
mail_location = maildir:~/Maildir
namespace inbox {
  inbox = yes
  location =
}
passdb {
  args = dovecot
  driver = pam
}
protocol lmtp {
  mail_plugins = sieve
}
`

const imapdGood = "configdirectory: /var/lib/cyrus\npartition-default: /srv/mail\nmailbox_legacy_dirs: yes\nconversations: no\nsasl_pwcheck_method: saslauthd\n"

// fixture is a Host over files.
func fixture(t *testing.T, files map[string]string) *Host {
	t.Helper()
	h := &Host{Root: t.TempDir(), Path: "/etc/mailcryptfs/mailcryptfs.toml", Now: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)}
	h.Config = config.Default()
	h.Config.Profile, h.Config.Plain, h.Config.Anvil = "dovecot-maildir", "refuse", "/run/dovecot/anvil"
	h.Config.Recovery, h.Config.Recipients = "optional", []string{"age1example"}
	h.Config.SiteSecret = "credential:site.secret"
	h.Drill = h.Now.AddDate(0, -1, 0)
	h.Doveconf = func(context.Context) (string, error) { return doveconfGood, nil }
	for _, set := range []map[string]string{good, files} {
		for name, text := range set {
			write(t, h, name, text)
		}
	}
	for _, err := range []error{
		os.Symlink("../dm-3", mkdir(t, h.path("/dev/mapper"))+"/swap"),
		os.Chmod(h.path("/var/lib/mailcryptfs/store/.mailcryptfs"), 0o700),
		os.Chmod(h.path("/run/mailcryptfs/keyring"), 0o700),
		os.Mkdir(mkdir(t, h.path("/srv"))+"/mail", 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func mkdir(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func write(t *testing.T, h *Host, name, text string) {
	t.Helper()
	mkdir(t, filepath.Dir(h.path(name)))
	if err := os.WriteFile(h.path(name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// onDisk are findings that every fixture has, which lies on a disk and is not mounted.
func onDisk(f Finding) bool {
	return f.Check == "keyring" && strings.Contains(f.What, "not in memory") || f.Check == "mount-guard" && strings.Contains(f.What, "not mounted")
}

func lines(all []Finding) []string {
	out := []string{}
	for _, f := range all {
		if !onDisk(f) {
			out = append(out, fmt.Sprintf("%s %s: %s", f.Severity, f.Check, f.What))
		}
		if f.Why == "" || f.Remedy == "" {
			out = append(out, f.What+" has no reason or no remedy")
		}
	}
	return out
}

func TestGood(t *testing.T) {
	t.Parallel()
	if got := lines(Run(t.Context(), fixture(t, nil))); len(got) > 0 {
		t.Errorf("found %q", got)
	}
	if n := len(Checks()); n < 18 {
		t.Errorf("%d checks", n)
	}
}

// TestFindings makes one thing wrong at a time.
func TestFindings(t *testing.T) {
	t.Parallel()
	doveconf := func(more string) func(*testing.T, *Host) {
		return func(_ *testing.T, h *Host) {
			h.Doveconf = func(context.Context) (string, error) { return doveconfGood + more, nil }
		}
	}
	file := func(name, text string) func(*testing.T, *Host) {
		return func(t *testing.T, h *Host) { write(t, h, name, text) }
	}
	mode := func(name string, m os.FileMode) func(*testing.T, *Host) {
		return func(t *testing.T, h *Host) {
			if err := os.Chmod(h.path(name), m); err != nil {
				t.Fatal(err)
			}
		}
	}
	conf := func(f func(*config.Config)) func(*testing.T, *Host) {
		return func(_ *testing.T, h *Host) { f(&h.Config) }
	}
	host := func(f func(*Host)) func(*testing.T, *Host) { return func(_ *testing.T, h *Host) { f(h) } }
	imapd := func(old, with string) func(*testing.T, *Host) {
		return func(t *testing.T, h *Host) {
			h.Config.Profile = "cyrus"
			write(t, h, "/etc/imapd.conf", strings.Replace(imapdGood, old, with, 1))
		}
	}
	for _, tt := range []struct {
		do   func(*testing.T, *Host)
		want string
	}{
		{file("/proc/swaps", "Filename Type\n/dev/sda2 partition\n"), "warn swap: swap on /dev/sda2 is not encrypted"},
		{file("/proc/swaps", "Filename Type\n/swapfile file\n"), "warn swap: swap on /swapfile is not encrypted"},
		{file("/sys/class/block/dm-3/dm/uuid", "LVM-x"), "warn swap: swap on /dev/mapper/swap is not encrypted"},
		{file("/proc/sys/kernel/core_pattern", "|/lib/systemd/systemd-coredump %P"), "warn core-dumps: crashed processes leave core files"},
		{file("/proc/sys/kernel/core_pattern", "core"), "warn core-dumps: crashed processes leave core files: kernel.core_pattern = core"},
		{mode("/etc/mailcryptfs/mailcryptfs.toml", 0o664), "fail config-permissions: /etc/mailcryptfs/mailcryptfs.toml has mode 0664"},
		{mode("/etc/mailcryptfs", 0o777), "fail config-permissions: /etc/mailcryptfs has mode 0777"},
		{mode("/var/lib/mailcryptfs/store", 0o775), "fail store-permissions: /var/lib/mailcryptfs/store has mode 0775"},
		{mode("/var/lib/mailcryptfs/store/.mailcryptfs", 0o750), "fail store-permissions: /var/lib/mailcryptfs/store/.mailcryptfs has mode 0750"},
		{mode("/run/mailcryptfs/keyring", 0o711), "fail keyring: /run/mailcryptfs/keyring has mode 0711"},
		{mode("/srv/mail", 0o755), "fail mount-guard: the directory beneath /srv/mail has mode 0755"},
		{file("/srv/mail/alice", "mail"), "fail mount-guard: there are files beneath /srv/mail: \"alice\""},
		{conf(func(c *config.Config) { c.SiteSecret = "/etc/mailcryptfs/none" }), "fail site-secret: the site secret cannot be looked at"},
		{file("/etc/systemd/system/mailcryptfs.service.d/x.conf", "[Service]\nProtectHome=yes\n"), "fail unit: /etc/systemd/system/mailcryptfs.service.d/x.conf has ProtectHome=yes"},
		{file("/usr/lib/systemd/system/mailcryptfs.service", "[Service]\nBindPaths=/srv\n"), "fail unit: /usr/lib/systemd/system/mailcryptfs.service has BindPaths=/srv"},
		{conf(func(c *config.Config) { c.Delivery, c.Plain = "plaintext", "serve" }), `warn settings: delivery = "plaintext"`},
		{conf(func(c *config.Config) { c.Unenrolled, c.Plain = "plaintext", "serve" }), `warn settings: unenrolled = "plaintext"`},
		{conf(func(c *config.Config) { c.LockMemory = "warn" }), `warn settings: lock_memory = "warn"`},
		{conf(func(c *config.Config) { c.Anvil = "" }), "warn settings: nothing tells the daemon when sessions end"},
		{host(func(h *Host) { h.Daemon = []string{"anvil does not answer"} }), "warn settings: anvil does not answer"},
		{conf(func(c *config.Config) { c.Plain = "serve" }), `note plain-entries: no file of the store is plain, and plain = "serve"`},
		{conf(func(c *config.Config) { c.Recovery = "none" }), `warn recovery: recovery = "none"`},
		{conf(func(c *config.Config) { c.Recipients = nil }), `fail recovery: recovery = "optional", and no recovery key is configured`},
		{host(func(h *Host) { h.Users = []User{{"alice", true}, {"bob", false}} }), "warn recovery: 1 of 2 users have no way back but their password: alice"},
		{host(func(h *Host) { h.Unknown = "no daemon answers" }), "note recovery: it is not known who has a way back: no daemon answers"},
		{file("/root/usb/recovery.txt", "# created: 2026\nAGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ\n"), "fail recovery-key-on-host: /root/usb/recovery.txt holds the private half of an age key"},
		{file("/etc/mailcryptfs/key", "AGE-SECRET-KEY-PQ-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ\n"), "fail recovery-key-on-host: /etc/mailcryptfs/key holds"},
		{host(func(h *Host) { h.Drill = time.Time{} }), "warn drill: the recovery key was never tried"},
		{host(func(h *Host) { h.Drill = h.Now.AddDate(-1, 0, 0) }), "warn drill: the recovery key was last tried on 2025-05-01"},
		{host(func(h *Host) { h.Losses = []string{"2026-04-30 log-lost: 3 events"} }), "warn audit-log: the audit log has lost something: 2026-04-30 log-lost"},
		{file("/etc/pam.d/dovecot", "@include common-auth\n@include common-account\n"), "warn pam: no PAM service of a mail server has pam_mailcryptfs.so"},
		{file("/etc/pam.d/dovecot", "auth optional pam_mailcryptfs.so\n@include common-account\n"), "fail pam: /etc/pam.d/dovecot has pam_mailcryptfs.so in auth, and not in account"},
		{file("/etc/pam.d/imap", "@include common-auth\n@include common-account\naccount optional pam_mailcryptfs.so\n"), "fail pam: /etc/pam.d/imap has pam_mailcryptfs.so in account, and not in auth"},
		{file("/etc/pam.d/imap", "auth sufficient pam_ldap.so\nauth optional pam_mailcryptfs.so\naccount optional pam_mailcryptfs.so\n"), "fail pam: /etc/pam.d/imap: sufficient pam_ldap.so (of /etc/pam.d/imap) stands before"},
		{file("/etc/pam.d/imap", "auth [success=1 default=ignore] pam_unix.so\nauth optional pam_mailcryptfs.so\naccount optional pam_mailcryptfs.so\n"), "fail pam: /etc/pam.d/imap: [success=1 default=ignore] pam_unix.so"},
		{file("/etc/pam.d/imap", "@include loop\nauth optional pam_mailcryptfs.so\n"), "fail pam: /etc/pam.d/imap has pam_mailcryptfs.so in auth, and not in account"},
		{file("/etc/default/saslauthd", "OPTIONS=\"-c -m /var/run/saslauthd\"\n"), "warn saslauthd: saslauthd by /etc/default/saslauthd runs with -c"},
		{func(t *testing.T, h *Host) {
			file("/etc/default/saslauthd", "OPTIONS=\"-c -m /var/run/saslauthd\"\n")(t, h)
			imapd("", "")(t, h)
		}, "fail saslauthd: saslauthd by /etc/default/saslauthd runs with -c"},
		{host(func(h *Host) { h.NoLog = "it is away" }), "note audit-log: the audit log cannot be read: it is away"},
		{doveconf("namespace x {\n  location = mbox:~/mail:INBOX=/var/mail/%u\n}\n"), "fail dovecot: location = mbox:~/mail:INBOX=/var/mail/%u: INBOX lies outside"},
		{host(func(h *Host) {
			h.Doveconf = func(context.Context) (string, error) { return "mail_location = maildir:~/Maildir\n", nil }
		}), "warn dovecot: no passdb of Dovecot asks PAM (drivers: )"},
		{file("/proc/77/cmdline", "/usr/sbin/saslauthd\x00-a\x00pam\x00-rc\x00"), "fail saslauthd: saslauthd (process 77) runs with -c"},
		{doveconf("auth_cache_size = 10 M\n"), "warn dovecot: auth_cache_size = 10 M"},
		{doveconf("auth_verbose_passwords = sha1\n"), "fail dovecot: auth_verbose_passwords = sha1"},
		{doveconf("auth_debug_passwords = yes\n"), "fail dovecot: auth_debug_passwords = yes"},
		{doveconf("namespace x {\n  location = maildir:/var/mail/%u\n}\n"), "fail dovecot: location = maildir:/var/mail/%u: mail lies in /var/mail, outside of the view"},
		{doveconf("namespace x {\n  location = maildir:~/x:INDEX=/var/index/%u\n}\n"), "warn dovecot: location = maildir:~/x:INDEX=/var/index/%u: INDEX lies outside"},
		{doveconf("namespace x {\n  location = sdbox:~/x:ALT=/slow/%u\n}\n"), "fail dovecot: location = sdbox:~/x:ALT=/slow/%u: ALT lies outside"},
		{doveconf("mail_temp_dir = /var/tmp\n"), "warn dovecot: mail_temp_dir = /var/tmp is on a disk"},
		{doveconf("mail_attachment_dir = /var/attachments\n"), "fail dovecot: mail_attachment_dir = /var/attachments is outside"},
		{doveconf("plugin {\n  fts = solr\n}\n"), "fail dovecot: fts = solr"},
		{doveconf("plugin {\n  mail_log_fields = uid box subject\n}\n"), "warn dovecot: mail_log_fields = uid box subject"},
		{doveconf("plugin {\n  mail_replica = tcp:other\n}\n"), "note dovecot: mail_replica = tcp:other"},
		{host(func(h *Host) {
			h.Doveconf = func(context.Context) (string, error) { return "passdb {\n  driver = sql\n}\n", nil }
		}), "warn dovecot: no passdb of Dovecot asks PAM (drivers: sql)"},
		{host(func(h *Host) {
			h.Doveconf = func(context.Context) (string, error) { return "", errors.New("not found") }
		}), "note dovecot: Dovecot's settings cannot be read: not found"},
		{imapd("", ""), "note cyrus: imapd.conf: configdirectory: /var/lib/cyrus is not encrypted"},
		{imapd("/srv/mail", "/var/spool/cyrus"), "fail cyrus: imapd.conf: no partition lies in the view"},
		{imapd("mailbox_legacy_dirs: yes", ""), "note cyrus: imapd.conf: mailbox_legacy_dirs is not set"},
		{imapd("mailbox_legacy_dirs: yes", "metapartition_files: header index"), "fail cyrus: imapd.conf: metapartition_files: header index takes"},
		{imapd("mailbox_legacy_dirs: yes", "archivepartition-default: /srv/mail/old"), "fail cyrus: imapd.conf: archivepartition-default has messages"},
		{file("/etc/postfix/master.cf", "local unix - n n - - local\n"), "fail postfix: local of Postfix stores mail in the view"},
		{func(t *testing.T, h *Host) {
			file("/etc/postfix/main.cf", "home_mailbox = Maildir/\n")(t, h)
			file("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\nalice:x:1000:1000::/srv/mail/alice:/bin/sh\n")(t, h)
			file("/etc/postfix/master.cf", "smtp inet n - y - - smtpd\n  -o soft_bounce=yes\nlocal unix - n n - - local\n")(t, h)
		}, "fail postfix: local of Postfix stores mail in the view"},
		{imapd("conversations: no", "conversations: yes"), "warn cyrus: imapd.conf: conversations: yes"},
		{imapd("conversations", "metapartition-default: /fast\nconversations"), "fail cyrus: imapd.conf: metapartition-default: /fast is outside"},
		{imapd("conversations", "search_engine: xapian\nconversations"), "warn cyrus: imapd.conf: search_engine: xapian"},
		{imapd("saslauthd", "auxprop"), "warn cyrus: imapd.conf: sasl_pwcheck_method does not name saslauthd"},
	} {
		t.Run(tt.want, func(t *testing.T) {
			t.Parallel()
			h := fixture(t, nil)
			before := lines(Run(t.Context(), h))
			tt.do(t, h)
			got := lines(Run(t.Context(), h))
			matching := slices.DeleteFunc(slices.Clone(got), func(l string) bool { return !strings.HasPrefix(l, tt.want) })
			if len(matching) != 1 {
				t.Errorf("found %q, want one %q", got, tt.want)
			}
			// Cyrus brings a note of its own.
			if len(got) > len(before)+1 && !strings.Contains(strings.Join(got, " "), "cyrus") {
				t.Errorf("found %q", got)
			}
		})
	}
}

func TestSiteSecretOnTheSameDisk(t *testing.T) {
	t.Parallel()
	h := fixture(t, map[string]string{"/etc/mailcryptfs/site.secret": "x"})
	h.Config.SiteSecret = "/etc/mailcryptfs/site.secret"
	want := []string{"fail site-secret: /etc/mailcryptfs/site.secret has mode 0644", "warn site-secret: the site secret /etc/mailcryptfs/site.secret lies on the same disk as the store"}
	if got := lines(Run(t.Context(), h)); !slices.Equal(got, want) {
		t.Errorf("found %q", got)
	}
	// Two partitions of one disk, and two disks.
	for _, d := range []string{"/sys/devices/sda/sda1", "/sys/devices/sda/sda2", "/sys/devices/sdb/sdb1"} {
		write(t, h, d+"/partition", "1")
	}
	mkdir(t, h.path("/sys/dev/block"))
	for number, target := range map[string]string{"8:1": "sda/sda1", "8:2": "sda/sda2", "8:17": "sdb/sdb1"} {
		if err := os.Symlink("../../devices/"+target, h.path("/sys/dev/block/"+number)); err != nil {
			t.Fatal(err)
		}
	}
	if a, b, c := h.disk(unix.Mkdev(8, 1)), h.disk(unix.Mkdev(8, 2)), h.disk(unix.Mkdev(8, 17)); a != b || a == c || a != "sda" {
		t.Errorf("disks %q %q %q", a, b, c)
	}
}

func TestParseDoveconf(t *testing.T) {
	t.Parallel()
	d := parseDoveconf("# comment\na = 1\nservice auth {\n  unix_listener x {\n    mode = 0600\n  }\n  a = 2\n}\n}\nb =\n")
	want := dovecotSettings{{"", "a", "1"}, {"service auth > unix_listener x", "mode", "0600"}, {"service auth", "a", "2"}, {"", "b", ""}}
	if !slices.Equal(d, want) {
		t.Errorf("%+v", d)
	}
	if d.value("a", "0") != "1" || d.value("c", "0") != "0" || len(d.get("a")) != 2 {
		t.Error("lookups are wrong")
	}
}
