package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// swap looks for swap space that is not encrypted: pages of mail servers hold mail and passwords.
func swap(_ context.Context, h *Host) []Finding {
	var out []Finding
	for i, line := range strings.Split(h.read("/proc/swaps"), "\n") {
		fields := strings.Fields(line)
		if i == 0 || len(fields) < 2 {
			continue
		}
		device := fields[0]
		if strings.HasPrefix(device, "/dev/zram") || h.encrypted(device) {
			continue
		}
		out = append(out, found(Warn, fmt.Sprintf("swap on %s is not encrypted", device),
			"memory of mail servers (mail, passwords) and the keyring directory may be written to it, and stays there",
			"encrypt it with a random key (crypttab(5): swap option), use zram, or swapoff"))
	}
	return out
}

// encrypted reports whether a block device is a dm-crypt mapping.
func (h *Host) encrypted(device string) bool {
	name := filepath.Base(device)
	if target, err := os.Readlink(h.path(device)); err == nil {
		name = filepath.Base(target)
	}
	return strings.HasPrefix(h.read("/sys/class/block/"+name+"/dm/uuid"), "CRYPT-")
}

// coreDumps looks whether a crashed mail server leaves a copy of its memory on disk.
func coreDumps(_ context.Context, h *Host) []Finding {
	pattern := strings.TrimSpace(h.read("/proc/sys/kernel/core_pattern"))
	if pattern == "" || pattern == "/dev/null" || strings.HasPrefix(pattern, "|/bin/false") || strings.HasPrefix(pattern, "|/bin/true") {
		return nil
	}
	pipe := strings.HasPrefix(pattern, "|")
	if strings.Contains(pattern, "systemd-coredump") && h.coredumpStorage() == "none" {
		return nil
	}
	// A limit does not stop a pipe (core(5)).
	if !pipe && strings.Contains(limitLine(h.read("/proc/1/limits"), "Max core file size"), " 0 ") {
		return nil
	}
	severity, more := Warn, ""
	if strings.TrimSpace(h.read("/proc/sys/fs/suid_dumpable")) == "0" {
		severity, more = Note, " (processes that changed their user id leave none: fs.suid_dumpable = 0)"
	}
	return []Finding{found(severity, fmt.Sprintf("crashed processes leave core files: kernel.core_pattern = %s%s", pattern, more),
		"the memory of imapd and its like holds mail; the daemon of mailcryptfs itself leaves no core file",
		"Storage=none in /etc/systemd/coredump.conf, or kernel.core_pattern = |/bin/false, or LimitCORE=0 in the units of the mail server")}
}

func (h *Host) coredumpStorage() string {
	storage := "external"
	files, _ := filepath.Glob(h.path("/etc/systemd/coredump.conf.d/*.conf")) // the pattern is good
	slices.Sort(files)
	for _, f := range append([]string{h.path("/etc/systemd/coredump.conf")}, files...) {
		rel := strings.TrimPrefix(f, strings.TrimSuffix(h.Root, "/"))
		if v := settingsOf(h.read(rel), "=")["Storage"]; v != "" {
			storage = v
		}
	}
	return storage
}

func limitLine(limits, name string) string {
	for line := range strings.Lines(limits) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.Join(append([]string{""}, append(strings.Fields(rest), "")...), " ")
		}
	}
	return ""
}

// namespaceOptions give a service a mount namespace of its own, where the view would not reach the mail server.
var namespaceOptions = []string{
	"Protect", "Private", "ReadOnly", "ReadWrite", "Inaccessible", "NoExecPaths", "ExecPaths", "Bind", "Root", "MountAPIVFS",
	"MountFlags", "Temporary", "DynamicUser", "Extension", "PAMName",
}

// unit looks for options in the daemon's unit that hide the view.
func unit(_ context.Context, h *Host) []Finding {
	var files []string
	for _, dir := range []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"} {
		files = append(files, dir+"/mailcryptfs.service")
		more, _ := filepath.Glob(h.path(dir + "/mailcryptfs.service.d/*.conf")) // the pattern is good
		for _, m := range more {
			files = append(files, filepath.Join(dir, "mailcryptfs.service.d", filepath.Base(m)))
		}
	}
	var out []Finding
	seen := map[string]bool{}
	for _, file := range files {
		text := h.read(file)
		if text == "" || seen[text] {
			continue // /lib may be /usr/lib
		}
		seen[text] = true
		for line := range strings.Lines(text) {
			key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			if !ok || strings.HasPrefix(key, "#") || slices.Contains([]string{"", "no", "false", "off", "0"}, strings.ToLower(value)) {
				continue
			}
			if slices.ContainsFunc(namespaceOptions, func(p string) bool { return strings.HasPrefix(key, p) }) {
				out = append(out, found(Fail, fmt.Sprintf("%s has %s", file, strings.TrimSpace(line)),
					"it gives the daemon a mount namespace of its own: the view is mounted where the mail server cannot see it, and mail lands beneath it",
					"remove the line, then systemctl daemon-reload and systemctl restart mailcryptfs"))
			}
		}
	}
	return out
}
