// Package doctor looks at a machine for what would break the encryption of mail, or leak what it protects: settings of the
// system, of PAM, Dovecot and Cyrus, permissions, keys that lie where they must not. Each check is a function of its own
// over a Host; none changes anything.
package doctor

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
)

// Severity says how bad a finding is.
type Severity string

const (
	// Fail says that mail leaks, or cannot be read or saved, as things are.
	Fail Severity = "fail"
	// Warn says that mail leaks or is lost under some circumstances.
	Warn Severity = "warn"
	// Note is something to know, or a check that could not be made.
	Note Severity = "note"
)

// Finding is one thing that was found. Field names in JSON are stable, as are the names of checks.
type Finding struct {
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	What     string   `json:"what"`
	Why      string   `json:"why"`
	Remedy   string   `json:"remedy"`
}

// Host is the machine that is looked at.
type Host struct {
	Root   string        // where its files are; "/" but for tests and images
	Config config.Config // of mailcryptfs
	Path   string        // of the configuration file
	Now    time.Time

	// Doveconf returns the output of doveconf -n; an error if there is no Dovecot. Nil: none.
	Doveconf func(context.Context) (string, error)

	Users   []User   // enrolled users
	Unknown string   // why they are not known; empty if they are
	Daemon  []string // problems that the daemon tells; nil if it does not answer

	Drill  time.Time // the last proof that a recovery key works; zero: never
	Losses []string  // what the audit log says of its own losses lately
	NoLog  string    // why the log and so these two are not known; empty if they are
}

// User is what of an enrolled user matters here.
type User struct {
	Name  string
	NoWay bool // nothing but passwords opens the mail
}

// check is one thing to look at. It returns findings without Check.
type check struct {
	name string
	run  func(context.Context, *Host) []Finding
}

// checks are all checks, in the order in which their findings are shown.
func checks() []check {
	return []check{
		{"swap", swap}, {"core-dumps", coreDumps},
		{"config-permissions", configPermissions}, {"site-secret", siteSecret}, {"store-permissions", storePermissions},
		{"keyring", keyringDir}, {"mount-guard", mountGuard}, {"unit", unit}, {"settings", settings}, {"plain-entries", plainEntries},
		{"recovery", recoveryPolicy}, {"recovery-key-on-host", recoveryKeys}, {"drill", drill}, {"audit-log", auditLog},
		{"pam", pamStacks}, {"saslauthd", saslauthd},
		{"dovecot", dovecot}, {"cyrus", cyrus}, {"postfix", postfix},
	}
}

// Run makes all checks and returns what they found.
func Run(ctx context.Context, h *Host) []Finding {
	all := []Finding{}
	for _, c := range checks() {
		for _, f := range c.run(ctx, h) {
			f.Check = c.name
			all = append(all, f)
		}
	}
	rank := map[Severity]int{Fail: 0, Warn: 1, Note: 2}
	slices.SortStableFunc(all, func(a, b Finding) int { return cmp.Compare(rank[a.Severity], rank[b.Severity]) })
	return all
}

// Checks returns the names of all checks.
func Checks() []string {
	var names []string
	for _, c := range checks() {
		names = append(names, c.name)
	}
	return names
}

func found(s Severity, what, why, remedy string) Finding {
	return Finding{Severity: s, What: what, Why: why, Remedy: remedy}
}

func unknown(what string, err error) []Finding {
	return []Finding{found(Note, fmt.Sprintf("%s: %v", what, err), "this check could not be made", "run the command as root on the mail server itself")}
}

// maxRead bounds what is read of a file, in bytes.
const maxRead = 1 << 20

func (h *Host) path(p string) string { return filepath.Join(h.Root, p) }

// read returns a text file of the host; "" if there is none that can be read.
func (h *Host) read(p string) string {
	f, err := os.Open(h.path(p))
	if err != nil {
		return ""
	}
	defer f.Close()
	b := make([]byte, maxRead)
	n := 0
	for n < len(b) {
		m, err := f.Read(b[n:])
		if n += m; err != nil {
			break
		}
	}
	return string(b[:n])
}

// settingsOf reads lines "key: value" or "key = value"; comments begin with #.
func settingsOf(text, separator string) map[string]string {
	all := make(map[string]string)
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		if key, value, ok := strings.Cut(line, separator); ok {
			all[strings.TrimSpace(key)] = strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	return all
}

// within reports whether path lies in dir or is dir.
func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
