package doctor

import (
	"context"
	"slices"
	"strings"
)

// postfix looks whether local(8) of Postfix would send mail back that it cannot store: a view that is not mounted refuses it,
// and other than virtual(8) it takes that for final.
func postfix(_ context.Context, h *Host) []Finding {
	set := settingsOf(h.read("/etc/postfix/main.cf"), "=")
	if !h.localDelivers(set) || set["soft_bounce"] == "yes" || softBounce(h.read("/etc/postfix/master.cf")) {
		return nil
	}
	return []Finding{found(Fail, "local of Postfix stores mail in the view, and master.cf does not give it soft_bounce=yes",
		"while the view is not mounted, mail is sent back to its sender instead of being tried again",
		"take the entry of contrib/postfix/master.cf.local into /etc/postfix/master.cf, then postfix reload")}
}

// localDelivers reports whether local(8) with the settings of main.cf delivers into the view: below the directory of
// mailboxes, or below the home of somebody.
func (h *Host) localDelivers(set map[string]string) bool {
	if within(h.Config.View, set["mail_spool_directory"]) {
		return true
	}
	if set["home_mailbox"] == "" && set["mailbox_command"] == "" {
		return false
	}
	for line := range strings.Lines(h.read("/etc/passwd")) {
		if fields := strings.Split(strings.TrimSpace(line), ":"); len(fields) == 7 && within(h.Config.View, fields[5]) {
			return true
		}
	}
	return false
}

// softBounce reports whether the entry of local(8) in master.cf, which may go on in lines that begin with a space
// (master(5)), has soft_bounce=yes.
func softBounce(master string) bool {
	var entries []string
	for line := range strings.Lines(master) {
		switch last := len(entries) - 1; {
		case strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "":
		case last >= 0 && strings.ContainsAny(line[:1], " \t"):
			entries[last] += line
		default:
			entries = append(entries, line)
		}
	}
	return slices.ContainsFunc(entries, func(entry string) bool {
		fields := strings.Fields(entry)
		return fields[0] == "local" && slices.Contains(fields, "soft_bounce=yes")
	})
}
