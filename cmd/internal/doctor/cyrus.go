package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// cyrus judges /etc/imapd.conf, if there is one.
func cyrus(_ context.Context, h *Host) []Finding {
	text := h.read("/etc/imapd.conf")
	if text == "" {
		return nil
	}
	set := settingsOf(text, ":")
	yes := func(key string) bool {
		switch set[key] {
		case "yes", "on", "t", "true", "1":
			return true
		}
		return false
	}
	var out []Finding
	inView := false
	for _, key := range slices.Sorted(maps.Keys(set)) {
		dir := set[key]
		switch {
		case strings.HasPrefix(key, "partition-"):
			inView = inView || within(h.Config.View, dir)
		case strings.HasPrefix(key, "metapartition-"), strings.Contains(key, "searchpartition-"), strings.HasPrefix(key, "archivepartition-"), strings.HasPrefix(key, "backuppartition-"):
			if !within(h.Config.View, dir) {
				out = append(out, found(Fail, fmt.Sprintf("imapd.conf: %s: %s is outside of the view", key, dir), "caches and search indexes hold senders, subjects and words of messages in clear",
					"put it below "+h.Config.View))
			}
		}
	}
	if !inView {
		if h.Config.Profile != "cyrus" {
			return nil // Cyrus has nothing to do with this store
		}
		out = append(out, found(Fail, "imapd.conf: no partition lies in the view "+h.Config.View, "mail is not encrypted", "set partition-default to a directory of the view"))
	}
	if h.Config.Profile != "cyrus" {
		out = append(out, found(Fail, fmt.Sprintf("Cyrus stores mail in the view, and profile = %q", h.Config.Profile), "messages are not taken for such, and the site secret alone opens them", `set profile = "cyrus"`))
	}
	if !yes("mailbox_legacy_dirs") {
		out = append(out, found(Note, "imapd.conf: mailbox_legacy_dirs is not set", "directories of mailboxes do not name their users; who owns one is read from its cyrus.header", "set mailbox_legacy_dirs: yes on a new store"))
		out = append(out, headers(set)...)
	}
	if yes("conversations") {
		out = append(out, found(Warn, "imapd.conf: conversations: yes", "subjects of messages lie in the configuration directory, in clear", "set conversations: no, or put configdirectory on an encrypted disk"))
	}
	switch engine := set["search_engine"]; engine {
	case "", "none":
	case "squat":
		out = append(out, found(Note, "imapd.conf: search_engine: squat", "squatter stops its run at the first user who is locked", "run it for users who are unlocked only"))
	default:
		out = append(out, found(Warn, "imapd.conf: search_engine: "+engine, "the search index holds the words of messages, and is made of mail that must be open for it", "set search_engine: none"))
	}
	if dir := set["configdirectory"]; dir != "" {
		out = append(out, found(Note, "imapd.conf: configdirectory: "+dir+" is not encrypted", "deliver.db holds message ids, the mailbox list names of folders", "put it on an encrypted disk"))
	}
	if method := set["sasl_pwcheck_method"]; h.Config.PAM != "" && !strings.Contains(method, "saslauthd") {
		out = append(out, found(Warn, "imapd.conf: sasl_pwcheck_method does not name saslauthd", "passwords do not reach PAM, and logins unlock nobody", "set sasl_pwcheck_method: saslauthd, and MECHANISMS=pam for it"))
	}
	if dir, ok := set["temp_path"]; !h.inMemory(dir) && (ok || !h.inMemory("/tmp")) {
		out = append(out, found(Note, "imapd.conf: temp_path is on a disk", "parts of messages may be written there in clear", "set temp_path to a directory on tmpfs"))
	}
	return out
}

// headers judges where mailboxes by id (mailbox_legacy_dirs: no) have their cyrus.header: it tells whose they are, and has to lie
// beside the messages.
func headers(set map[string]string) []Finding {
	const why = "it tells whose mail lies there: without it messages get the site's key, which root can open at any time"
	var out []Finding
	if files := set["metapartition_files"]; slices.Contains(strings.Fields(files), "header") {
		out = append(out, found(Fail, "imapd.conf: metapartition_files: "+files+" takes cyrus.header away from the messages", why, "remove header from it"))
	}
	for _, key := range slices.Sorted(maps.Keys(set)) {
		if strings.HasPrefix(key, "archivepartition-") {
			out = append(out, found(Fail, "imapd.conf: "+key+" has messages without a cyrus.header", why, "set mailbox_legacy_dirs: yes on a new store, or have no archive"))
		}
	}
	return out
}
