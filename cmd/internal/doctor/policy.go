package doctor

import (
	"bytes"
	"context"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// settings judges the configuration of mailcryptfs itself.
func settings(_ context.Context, h *Host) []Finding {
	c := h.Config
	var out []Finding
	if c.Delivery == "plaintext" {
		out = append(out, found(Warn, `delivery = "plaintext"`, "mail for users who are locked lies in clear in the store, and its blocks stay on the disk after it was encrypted",
			`set delivery = "sealed"`))
	}
	if c.Unenrolled == "plaintext" {
		out = append(out, found(Warn, `unenrolled = "plaintext"`, "mail of users without a key lies in clear in the store", `set unenrolled = "site"`))
	}
	if c.LockMemory == "warn" {
		out = append(out, found(Warn, `lock_memory = "warn"`, "keys may be written to swap space", `raise LimitMEMLOCK, then set lock_memory = "require"`))
	}
	if c.Anvil == "" && c.CyrusProc == "" && c.Idle == 0 && c.SessionCap == 0 {
		out = append(out, found(Warn, "nothing tells the daemon when sessions end", "a user who has logged in once stays unlocked until the machine restarts",
			"set anvil, cyrus_proc, idle or session_cap, or register sessions with a post-login script"))
	}
	for _, p := range h.Daemon {
		out = append(out, found(Warn, p, "the daemon says so", "mailcryptfs status"))
	}
	return out
}

// recoveryPolicy looks for users whose mail a forgotten password loses.
func recoveryPolicy(_ context.Context, h *Host) []Finding {
	var out []Finding
	switch c := h.Config; {
	case c.Recovery == "none":
		out = append(out, found(Warn, `recovery = "none"`, "a user who forgets the password loses all mail", `mailcryptfs setup --recovery, then recovery = "optional" or "required"`))
	case len(c.Recipients) == 0:
		out = append(out, found(Fail, fmt.Sprintf("recovery = %q, and no recovery key is configured", c.Recovery), "no slot for one can be made",
			"mailcryptfs setup --recovery FILE, on a disk that leaves this machine"))
	}
	if h.Unknown != "" {
		return append(out, found(Note, "it is not known who has a way back: "+h.Unknown, "this check could not be made", "mailcryptfs recovery drill"))
	}
	var none []string
	for _, u := range h.Users {
		if u.NoWay {
			none = append(none, u.Name)
		}
	}
	if len(none) > 0 {
		out = append(out, found(Warn, fmt.Sprintf("%d of %d users have no way back but their password: %s", len(none), len(h.Users), some(none)),
			"if they forget it, their mail is lost", "they get a slot for the recovery key at their next login; or mailcryptfs slot add --recovery-code USER"))
	}
	return out
}

// some shows the first few of many names.
func some(names []string) string {
	const few = 5
	if len(names) > few {
		return strings.Join(names[:few], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

// drillEvery is how old the last drill may be.
const drillEvery = 180 * 24 * time.Hour

func drill(_ context.Context, h *Host) []Finding {
	const why = "a recovery key that was lost or damaged shows only when it is tried"
	switch {
	case len(h.Config.Recipients) == 0 || h.NoLog != "":
		return nil
	case h.Drill.IsZero():
		return []Finding{found(Warn, "the recovery key was never tried", why, "mailcryptfs recovery drill --recovery-key FILE")}
	case h.Now.Sub(h.Drill) > drillEvery:
		return []Finding{found(Warn, "the recovery key was last tried on "+h.Drill.Format(time.DateOnly), why, "mailcryptfs recovery drill --recovery-key FILE")}
	}
	return nil
}

func auditLog(_ context.Context, h *Host) []Finding {
	var out []Finding
	if h.NoLog != "" {
		out = append(out, found(Note, "the audit log cannot be read: "+h.NoLog, "this check could not be made", "mailcryptfs log"))
	}
	for _, l := range h.Losses {
		out = append(out, found(Warn, "the audit log has lost something: "+l, "unlocks, recoveries or exports may not be in it", "mailcryptfs verify, and compare with the log of the daemon"))
	}
	return out
}

// Limits of the search for recovery keys.
const (
	maxKeyFile  = 64 << 10 // bytes
	maxKeyFiles = 20_000
	maxKeyDepth = 4
)

// caches are directories in which nobody keeps a key, and programs many files.
var caches = []string{".cache", ".git", "node_modules", "pkg", ".npm", ".cargo", ".rustup", "site-packages"}

// recoveryKeys looks for private halves of recovery keys where people leave them.
func recoveryKeys(ctx context.Context, h *Host) []Finding {
	var out []Finding
	seen := 0
	dirs := []string{filepath.Dir(h.Path), "/etc", "/root", "/home", "/var/lib/mailcryptfs", "/usr/local/etc", "/srv", "/opt"}
	for i, dir := range dirs {
		if i > 0 && within("/etc", filepath.Dir(h.Path)) && dir == filepath.Dir(h.Path) {
			continue
		}
		root := h.path(dir)
		_ = filepath.WalkDir(root, func(path string, d iofs.DirEntry, err error) error { // what cannot be read is left out
			rel, _ := filepath.Rel(h.Root, path)
			switch {
			case err != nil:
				return nil
			case ctx.Err() != nil || seen > maxKeyFiles:
				return errEnough
			case d.IsDir() && (within(h.Config.Store, "/"+rel) || within(h.Config.View, "/"+rel) || depth(root, path) > maxKeyDepth || slices.Contains(caches, d.Name())):
				return filepath.SkipDir
			case !d.Type().IsRegular():
				return nil
			}
			seen++
			if holdsKey(path, d) && !reported(out, "/"+rel) {
				out = append(out, found(Fail, "/"+rel+" holds the private half of an age key",
					"if it is that of a recovery key, whoever takes this machine opens everybody's mail with it",
					"move it to a machine or a stick that is kept elsewhere, then: shred -u /"+rel))
			}
			return nil
		})
	}
	return out
}

func reported(all []Finding, path string) bool {
	for _, f := range all {
		if strings.HasPrefix(f.What, path+" ") {
			return true
		}
	}
	return false
}

func depth(root, path string) int {
	rel, err := filepath.Rel(root, path)
	if err != nil || rel == "." {
		return 0
	}
	return strings.Count(rel, "/") + 1
}

// holdsKey reports whether a small file holds an age identity.
func holdsKey(path string, d iofs.DirEntry) bool {
	info, err := d.Info()
	if err != nil || info.Size() > maxKeyFile || info.Size() < 60 {
		return false
	}
	b, err := os.ReadFile(path)
	return err == nil && bytes.Contains(b, []byte("AGE-SECRET-KEY-"))
}
