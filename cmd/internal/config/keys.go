package config

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Key describes one key of the file for the template that Render writes and for the tests of the manual page.
type Key struct {
	Name string
	Doc  string              // one or more lines
	get  func(c *Config) any // its value
}

// Keys returns the description of every key, in the order of the file.
func Keys() []Key {
	return slices.Concat(placeKeys(), storageKeys(), sessionKeys(), machineKeys())
}

func placeKeys() []Key {
	return []Key{
		{"store", "The encrypted tree, on any ordinary filesystem. Back up this directory: it carries mail and key records.",
			func(c *Config) any { return c.Store }},
		{"view", "The mount point: what the mail server uses as its mail directory.",
			func(c *Config) any { return c.View }},
		{"profile", "What the mail server is: \"maildir\" (any maildir program), \"dovecot-maildir\", \"dovecot-sdbox\" or \"cyrus\".",
			func(c *Config) any { return c.Profile }},
		{"user", "Whose a path below the view is: \"%u\" (whole user name), \"%d/%n\" (domain, local part);\nliteral components are allowed, for example \"home/%u\". With profile = \"cyrus\" it tells where the\npartitions are: \"%u\" (the view is one), \"default/%u\" or \"*/%u\" (directories of the view are).",
			func(c *Config) any { return c.User }},
		{"private", "Further names (patterns with * ? []) whose content only the user's key opens.",
			func(c *Config) any { return c.Private }},
		{"meta", "Further names whose content the mail server must read while the user is locked.",
			func(c *Config) any { return c.Meta }},
		{"site_secret", "The site secret: a file; \"credential:NAME\", a credential of the systemd unit; or \"ask\", when the daemon starts.\nKeep a copy in a safe place outside this machine: without it no mail can be read.",
			func(c *Config) any { return c.SiteSecret }},
		{"keyring", "Memory-backed directory (tmpfs, root only) with one entry per unlocked user.",
			func(c *Config) any { return c.Keyring }},
		{"control", "Socket between the verbs of mailcryptfs and the daemon (root only).",
			func(c *Config) any { return c.Control }},
		{"pam", "Socket between the PAM module and the daemon (root only); \"\" for none. Not given: pam.sock beside control.",
			func(c *Config) any { return c.PAM }},
	}
}

func storageKeys() []Key {
	return []Key{
		{"names", "\"encrypted\", or \"plain\": file names in the store as they are, contents encrypted.",
			func(c *Config) any { return c.Names }},
		{"delivery", "What mail for a locked user is encrypted with: \"sealed\" (nobody but the user can read it once the\nepoch has ended), \"site\" (the site secret reads it), \"plaintext\" (nothing).",
			func(c *Config) any { return c.Delivery }},
		{"unenrolled", "The same for users who have no key yet: \"site\" or \"plaintext\".",
			func(c *Config) any { return c.Unenrolled }},
		{"plain", "Entries of the store that are not encrypted: \"serve\" them, or \"refuse\" and report them.",
			func(c *Config) any { return c.Plain }},
		{"epoch", "How long the daemon keeps one delivery key of a locked user, 1s to 24h.",
			func(c *Config) any { return c.Epoch }},
	}
}

func sessionKeys() []Key {
	return []Key{
		{"enroll", "\"manual\": mailcryptfs enroll makes keys; \"auto\": a user's first login does (recovery has to be written, too).",
			func(c *Config) any { return c.Enroll }},
		{"recovery", "\"none\": a lost password loses the mail. \"optional\": recovery keys open it, if there are any below.\n\"required\": and nobody is enrolled while there are none.",
			func(c *Config) any { return c.Recovery }},
		{"recovery_recipients", "Public halves (age1...) of the recovery keys; mailcryptfs setup --recovery makes one. After a change:\nsystemctl reload mailcryptfs. Users follow at their next unlock.",
			func(c *Config) any { return c.Recipients }},
		{"anvil", "Dovecot's anvil socket (/run/dovecot/anvil), \"\" for none: its users are in use while they have sessions.",
			func(c *Config) any { return c.Anvil }},
		{"cyrus_proc", "Cyrus' directory of sessions (proc_path: on Debian /run/cyrus/proc), \"\" for none: the same.",
			func(c *Config) any { return c.CyrusProc }},
		{"grace", "How long a user stays unlocked after the last use or login, 1s to 24h.",
			func(c *Config) any { return c.Grace }},
		{"idle", "A user who opened a message within this time is in use, \"0s\" for none.",
			func(c *Config) any { return c.Idle }},
		{"session_cap", "Nobody stays unlocked for longer than this, whatever is in use; \"0s\" for no limit.",
			func(c *Config) any { return c.SessionCap }},
	}
}

func machineKeys() []Key {
	return []Key{
		{"kdf_memory_kib", "Argon2id of new passwords: memory in KiB (at least 19456), passes, lanes.",
			func(c *Config) any { return int(c.KDFMemoryKiB) }},
		{"kdf_time", "", func(c *Config) any { return int(c.KDFTime) }},
		{"kdf_threads", "", func(c *Config) any { return int(c.KDFThreads) }},
		{"max_derivations", "Argon2id runs at one time; each takes kdf_memory_kib.",
			func(c *Config) any { return c.MaxDerivations }},
		{"lock_memory", "\"require\": do not start when keys cannot be locked in memory; \"warn\": start all the same.",
			func(c *Config) any { return c.LockMemory }},
		{"xattrs", "Serve extended attributes. Mail servers use none, and true makes the kernel ask for them before many writes.",
			func(c *Config) any { return c.XAttrs }},
		{"cluster", "The store is shared by several hosts, each with its own daemon.",
			func(c *Config) any { return c.Cluster }},
		{"worker_files", "Limits of background encryption: files per second, bytes per second (0: none), users at one time.",
			func(c *Config) any { return c.WorkerFiles }},
		{"worker_bytes", "", func(c *Config) any { return c.WorkerBytes }},
		{"worker_users", "", func(c *Config) any { return c.WorkerUsers }},
		{"log_level", "\"debug\", \"info\", \"warn\" or \"error\".",
			func(c *Config) any { return c.LogLevel }},
	}
}

// Render writes c as a commented file. Parse(Render(c)) gives c again.
func Render(c Config) []byte {
	var b strings.Builder
	b.WriteString("# Configuration of mailcryptfs; see mailcryptfs.toml(5).\n# Check it with: mailcryptfs serve --check-config\n")
	for _, k := range Keys() {
		if k.Doc != "" {
			b.WriteString("\n# " + strings.ReplaceAll(k.Doc, "\n", "\n# ") + "\n")
		}
		fmt.Fprintf(&b, "%s = %s\n", k.Name, literal(k.get(&c)))
	}
	return []byte(b.String())
}

// literal writes a value as TOML does.
func literal(v any) string {
	switch v := v.(type) {
	case string:
		return quote(v)
	case []string:
		quoted := make([]string, len(v))
		for i, s := range v {
			quoted[i] = quote(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	case time.Duration:
		return quote(shortDuration(v))
	default:
		return fmt.Sprint(v)
	}
}

// quote writes a TOML basic string. TOML knows no \x escape, which strconv.Quote would use.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// shortDuration drops the zero units that Duration.String writes: 10m, not 10m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func known(name string) bool {
	return slices.ContainsFunc(Keys(), func(k Key) bool { return k.Name == name })
}

// nearest returns the key that name is probably a mistyping of, or "".
func nearest(name string) string {
	best, bestDistance := "", 3
	for _, k := range Keys() {
		if d := distance(strings.ToLower(name), k.Name); d < bestDistance {
			best, bestDistance = k.Name, d
		}
	}
	return best
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
