package doctor

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// setting is one line of doveconf -n; in says in which section.
type setting struct{ in, key, value string }

// dovecotSettings is what Dovecot is configured to do.
type dovecotSettings []setting

// parseDoveconf reads the output of doveconf: lines "key = value", in sections with braces.
func parseDoveconf(text string) dovecotSettings {
	var all dovecotSettings
	var sections []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line == "}":
			sections = sections[:max(0, len(sections)-1)]
		case strings.HasSuffix(line, "{"):
			sections = append(sections, strings.TrimSpace(strings.TrimSuffix(line, "{")))
		default:
			key, value, _ := strings.Cut(line, "=")
			all = append(all, setting{strings.Join(sections, " > "), strings.TrimSpace(key), strings.TrimSpace(value)})
		}
	}
	return all
}

// get returns the settings of this name, wherever they stand.
func (d dovecotSettings) get(key string) []setting {
	return slices.DeleteFunc(slices.Clone(d), func(s setting) bool { return s.key != key })
}

// value returns the setting outside of sections.
func (d dovecotSettings) value(key, otherwise string) string {
	for _, s := range d.get(key) {
		if s.in == "" {
			return s.value
		}
	}
	return otherwise
}

// dovecot judges Dovecot's settings.
func dovecot(ctx context.Context, h *Host) []Finding {
	if h.Doveconf == nil {
		return nil
	}
	text, err := h.Doveconf(ctx)
	if err != nil {
		if h.Config.Profile == "dovecot-maildir" || h.Config.Profile == "dovecot-sdbox" {
			return []Finding{found(Note, fmt.Sprintf("Dovecot's settings cannot be read: %v", err), "its checks could not be made", "doveconf -n")}
		}
		return nil
	}
	d := parseDoveconf(text)
	out := h.mailLocations(d)
	for _, f := range []func(dovecotSettings) []Finding{h.dovecotAuth, h.dovecotFiles, h.dovecotPlugins} {
		out = append(out, f(d)...)
	}
	return out
}

func (h *Host) dovecotAuth(d dovecotSettings) []Finding {
	var out []Finding
	if size := d.value("auth_cache_size", "0"); size != "0" && strings.Trim(size, " 0BbKkMmGg") != "" {
		out = append(out, found(Warn, "auth_cache_size = "+size, "a login that Dovecot answers from its cache may not reach PAM, and unlocks nobody", "set auth_cache_size = 0"))
	}
	if v := d.value("auth_verbose_passwords", "no"); v != "no" {
		out = append(out, found(Fail, "auth_verbose_passwords = "+v, "passwords, or their hashes, are in the log; a password opens the mail of years", "set auth_verbose_passwords = no, and erase the old logs"))
	}
	if v := d.value("auth_debug_passwords", "no"); v == "yes" {
		out = append(out, found(Fail, "auth_debug_passwords = yes", "passwords are in the log", "set auth_debug_passwords = no, and erase the old logs"))
	}
	pam, others := 0, []string{}
	for _, s := range d.get("driver") {
		if strings.HasPrefix(s.in, "passdb") {
			if s.value == "pam" {
				pam++
			} else {
				others = append(others, s.value)
			}
		}
	}
	if pam == 0 && h.Config.PAM != "" {
		out = append(out, found(Warn, fmt.Sprintf("no passdb of Dovecot asks PAM (drivers: %s)", some(others)), "logins do not unlock, unless another feeder does it", "contrib/dovecot/README.md"))
	}
	return out
}

// mailLocations looks whether mail, and what is made of it, lies in the view.
func (h *Host) mailLocations(d dovecotSettings) []Finding {
	home := d.value("mail_home", "")
	var out []Finding
	for _, s := range append(d.get("mail_location"), d.get("location")...) {
		if s.value == "" || s.key == "location" && !strings.HasPrefix(s.in, "namespace") {
			continue
		}
		parts := strings.Split(s.value, ":")
		if len(parts) < 2 || slices.Contains([]string{"imapc", "pop3c", "virtual", "fail", "shared"}, parts[0]) {
			continue
		}
		if f := h.outside(parts[1], home); f != "" {
			out = append(out, found(Fail, fmt.Sprintf("%s = %s: mail lies in %s, outside of the view %s", s.key, s.value, f, h.Config.View), "it is not encrypted", "store mail below the view"))
		}
		for _, p := range parts[2:] {
			name, path, _ := strings.Cut(p, "=")
			if f := h.outside(path, home); f != "" && slices.Contains([]string{"INBOX", "INDEX", "INDEXPVT", "CONTROL", "ALT", "ATTACHMENTS", "INDEXCACHE", "LISTINDEX"}, name) {
				severity, what := Warn, "indexes, which hold senders, subjects and words of messages,"
				if name == "INBOX" || name == "ALT" || name == "ATTACHMENTS" {
					severity, what = Fail, "mail"
				}
				out = append(out, found(severity, fmt.Sprintf("%s = %s: %s lies outside of the view", s.key, s.value, name),
					what+" would lie there in clear", "leave out "+name+"=, or put it below the view"))
			}
		}
	}
	return out
}

// outside returns the directory that a path of Dovecot's begins with if it cannot be in the view; "" if it is, or may be.
func (h *Host) outside(path, home string) string {
	if home == "" && (strings.HasPrefix(path, "~") || strings.HasPrefix(path, "%h")) {
		return "" // it comes from a userdb
	}
	if rest, ok := strings.CutPrefix(path, "~"); ok {
		path = home + rest
	}
	path = strings.ReplaceAll(path, "%h", home)
	fixed, _, variable := strings.Cut(path, "%")
	if !filepath.IsAbs(fixed) {
		return "" // relative to the home directory, or in memory
	}
	if variable {
		fixed = fixed[:strings.LastIndexByte(fixed, '/')+1]
	}
	fixed = filepath.Clean(fixed)
	if within(h.Config.View, fixed) || variable && within(fixed, h.Config.View) {
		return ""
	}
	return fixed
}

// dovecotFiles looks for files outside of the view into which Dovecot writes parts of mail.
func (h *Host) dovecotFiles(d dovecotSettings) []Finding {
	var out []Finding
	if dir := d.value("mail_temp_dir", "/tmp"); !h.inMemory(dir) && !within(h.Config.View, dir) {
		out = append(out, found(Warn, fmt.Sprintf("mail_temp_dir = %s is on a disk", dir), "LMTP writes messages over 128 KiB there in clear, and their blocks stay on the disk",
			"set mail_temp_dir to a directory on tmpfs, for example /dev/shm/dovecot (mode 1777)"))
	}
	for _, key := range []string{"mail_attachment_dir", "rawlog_dir", "sieve_trace_dir", "imap_rawlog_dir", "pop3_rawlog_dir", "lmtp_rawlog_dir"} {
		for _, s := range d.get(key) {
			if s.value != "" && h.outside(s.value, d.value("mail_home", "")) != "" {
				out = append(out, found(Fail, fmt.Sprintf("%s = %s is outside of the view", key, s.value), "parts of messages are written there in clear", "unset it, or put it below the view"))
			}
		}
	}
	return out
}

// inMemory reports whether a directory lies on tmpfs or ramfs.
func (h *Host) inMemory(dir string) bool {
	best, kind := "", ""
	for line := range strings.Lines(h.read("/proc/mounts")) {
		f := strings.Fields(line)
		if len(f) > 2 && within(f[1], dir) && len(f[1]) >= len(best) {
			best, kind = f[1], f[2]
		}
	}
	return kind == "tmpfs" || kind == "ramfs"
}

// dovecotPlugins looks for plugins that copy parts of mail to other places.
func (h *Host) dovecotPlugins(d dovecotSettings) []Finding {
	var out []Finding
	for _, s := range d.get("fts") {
		if s.value == "solr" || s.value == "elastic" {
			out = append(out, found(Fail, "fts = "+s.value, "the search index lies in another program, in clear: it holds the words of all mail", "use fts_flatcurve or lucene, whose index lies with the mail"))
		}
	}
	for _, s := range d.get("mail_log_fields") {
		if strings.Contains(s.value, "subject") || strings.Contains(s.value, "from") {
			out = append(out, found(Warn, "mail_log_fields = "+s.value, "the log holds subjects or senders", "leave subject and from out"))
		}
	}
	for _, s := range d.get("mail_replica") {
		if s.value != "" {
			out = append(out, found(Note, "mail_replica = "+s.value, "a copy of the mail lies on another machine: it is encrypted only if a mailcryptfs works there", "see to the other machine, too"))
		}
	}
	return out
}
