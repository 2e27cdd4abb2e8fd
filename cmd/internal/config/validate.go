package config

import (
	"fmt"
	"math"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Limits that Validate enforces. Times and memory of Argon2id are those of FORMAT.md K10, with a higher floor for
// memory: below it, a stolen store invites guessing.
const (
	MinKDFMemoryKiB = 19456
	MaxKDFMemoryKiB = 1 << 20
	MaxKDFTime      = 16
	MaxKDFThreads   = 8
	MaxDerivations  = 64
	MinEpoch        = time.Second
	MaxEpoch        = 24 * time.Hour
	maxSocketPath   = 107 // sun_path of unix(7), less the final zero byte
)

// KeyError says what is wrong with one key of the file.
type KeyError struct {
	Path    string // the file, if known
	Line    int    // 1 for the first line; 0 if the key is not written in the file
	Key     string
	Value   string // as TOML would write it; empty for an unknown key
	Problem string
	Remedy  string
}

// Error gives one line: file, line, key, value, problem and remedy.
func (e *KeyError) Error() string {
	var b strings.Builder
	if e.Path != "" {
		b.WriteString(e.Path)
		if e.Line > 0 {
			fmt.Fprintf(&b, ":%d", e.Line)
		}
		b.WriteString(": ")
	}
	b.WriteString(e.Key)
	if e.Value != "" {
		b.WriteString(" = " + e.Value)
	}
	b.WriteString(": " + e.Problem + "; " + e.Remedy)
	return b.String()
}

// Validate reports the first value that cannot work, as a *KeyError without path and line.
func (c *Config) Validate() error {
	if errs := c.validate(); len(errs) > 0 {
		return errs[0]
	}
	return nil
}

func (c *Config) validate() []*KeyError {
	var v checker
	v.paths(c)
	v.layout(c)
	v.choices(c)
	v.sessions(c)
	v.recovery(c)
	v.numbers(c)
	return v.errs
}

// checker collects what is wrong, in the order of the file.
type checker struct{ errs []*KeyError }

func (v *checker) fail(key string, value any, problem, remedy string) {
	v.errs = append(v.errs, &KeyError{Key: key, Value: literal(value), Problem: problem, Remedy: remedy})
}

func (v *checker) paths(c *Config) {
	ok := v.absolute("store", c.Store)
	ok = v.absolute("view", c.View) && ok
	if ok && (within(c.Store, c.View) || within(c.View, c.Store)) {
		v.fail("view", c.View, fmt.Sprintf("store (%s) and view may not contain each other", c.Store),
			"choose two separate directories")
		ok = false
	}
	v.siteSecret(c, ok)
	for _, p := range []struct{ key, value, why string }{
		{"keyring", c.Keyring, "keys of unlocked users must never reach a disk"},
		{"control", c.Control, "a socket is no mail"},
	} {
		if !v.absolute(p.key, p.value) || !ok {
			continue
		}
		if within(p.value, c.Store) || within(p.value, c.View) {
			v.fail(p.key, p.value, "lies in the store or in the view: "+p.why, "choose a path outside both")
		}
	}
	for _, p := range []struct{ key, value string }{{"control", c.Control}, {"pam", c.PAM}, {"anvil", c.Anvil}} {
		if len(p.value) > maxSocketPath {
			v.fail(p.key, p.value, fmt.Sprintf("a socket path has at most %d bytes", maxSocketPath), "choose a shorter one")
		}
	}
	v.optional(c, ok)
}

// optional judges paths that may be empty. disjoint says that store and view are good.
func (v *checker) optional(c *Config, disjoint bool) {
	for _, p := range []struct{ key, value string }{{"pam", c.PAM}, {"anvil", c.Anvil}, {"cyrus_proc", c.CyrusProc}} {
		if p.value == "" || !v.absolute(p.key, p.value) || !disjoint {
			continue
		}
		if within(p.value, c.Store) || within(p.value, c.View) {
			v.fail(p.key, p.value, "lies in the store or in the view", "choose a path outside both")
		}
	}
	if c.PAM != "" && c.PAM == c.Control {
		v.fail("pam", c.PAM, "is the control socket", "choose another path")
	}
}

func (v *checker) sessions(c *Config) {
	v.oneOf("enroll", c.Enroll, "manual", "auto")
	if c.Grace < time.Second || c.Grace > 24*time.Hour {
		v.fail("grace", c.Grace, "is not between 1s and 24h", `write a time with a unit, for example "60s"`)
	}
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"idle", c.Idle}, {"session_cap", c.SessionCap}} {
		if d.value < 0 || d.value > 0 && d.value < time.Second {
			v.fail(d.key, d.value, "is neither 0s nor at least 1s", `write a time with a unit, for example "30m"`)
		}
	}
}

func (v *checker) absolute(key, value string) bool {
	switch {
	case value == "":
		v.fail(key, value, "is empty", "write an absolute path")
	case !filepath.IsAbs(value):
		v.fail(key, value, "is not an absolute path", "begin it with /")
	case filepath.Clean(value) != value:
		v.fail(key, value, "is not in its shortest form", fmt.Sprintf("write %q", filepath.Clean(value)))
	case value == "/":
		v.fail(key, value, "is the root of the system", "choose a directory below it")
	case strings.ContainsAny(value, "\n\x00"):
		v.fail(key, value, "contains a newline or a zero byte", "choose another path")
	default:
		return true
	}
	return false
}

func (v *checker) layout(c *Config) {
	v.oneOf("profile", c.Profile, "maildir", "dovecot-maildir", "dovecot-sdbox", "cyrus")
	if problem := templateProblem(c.User); problem != "" {
		v.fail("user", c.User, problem, `write for example "%u", "%d/%n" or "home/%u"`)
	}
	for _, l := range []struct {
		key      string
		patterns []string
	}{{"private", c.Private}, {"meta", c.Meta}} {
		for _, p := range l.patterns {
			if _, err := path.Match(p, "x"); err != nil || p == "" {
				v.fail(l.key, p, "is not a pattern", `write a name with *, ? or [a-z], for example "*.idx"`)
			}
		}
	}
	for _, p := range c.Private {
		if slices.Contains(c.Meta, p) {
			v.fail("meta", p, "is also a pattern of private", "keep it in one of the two")
		}
	}
}

// templateProblem judges the user template: literal components and %u, or %n with or without %d, each at most once.
func templateProblem(t string) string {
	switch {
	case t == "":
		return "is empty"
	case strings.HasPrefix(t, "/"):
		return "begins with /, but is taken below the view"
	}
	for _, component := range strings.Split(t, "/") {
		if component == "" || component == "." || component == ".." {
			return fmt.Sprintf("has the component %q", component)
		}
	}
	seen := map[byte]int{}
	for i := 0; i < len(t); i++ {
		if t[i] != '%' {
			continue
		}
		i++
		if i == len(t) || !strings.ContainsRune("udn", rune(t[i])) {
			return "has a % that is not %u, %d or %n"
		}
		seen[t[i]]++
	}
	switch {
	case seen['u'] > 1 || seen['d'] > 1 || seen['n'] > 1:
		return "names a placeholder twice"
	case seen['u']+seen['n'] == 0:
		return "names no user"
	case seen['u'] > 0 && seen['n']+seen['d'] > 0:
		return "mixes %u with %d or %n"
	}
	return ""
}

func (v *checker) choices(c *Config) {
	v.oneOf("names", c.Names, "encrypted", "plain")
	v.oneOf("delivery", c.Delivery, "sealed", "site", "plaintext")
	v.oneOf("unenrolled", c.Unenrolled, "site", "plaintext")
	v.oneOf("plain", c.Plain, "serve", "refuse")
	v.oneOf("lock_memory", c.LockMemory, "require", "warn")
	v.oneOf("log_level", c.LogLevel, "debug", "info", "warn", "error")
	if c.Plain == "refuse" && (c.Delivery == "plaintext" || c.Unenrolled == "plaintext") {
		v.fail("plain", c.Plain, `plain entries would be written (delivery or unenrolled is "plaintext") and then refused`,
			`write plain = "serve", or "site" for the other`)
	}
}

func (v *checker) oneOf(key, value string, allowed ...string) {
	if slices.Contains(allowed, value) {
		return
	}
	quoted := make([]string, len(allowed))
	for i, a := range allowed {
		quoted[i] = fmt.Sprintf("%q", a)
	}
	v.fail(key, value, "is not a value of this key", "write "+strings.Join(quoted, " or "))
}

func (v *checker) numbers(c *Config) {
	if c.Epoch < MinEpoch || c.Epoch > MaxEpoch {
		v.fail("epoch", c.Epoch, fmt.Sprintf("is not between %s and %s", MinEpoch, MaxEpoch), `write a time with a unit, for example "10m"`)
	}
	v.between("kdf_memory_kib", int(c.KDFMemoryKiB), MinKDFMemoryKiB, MaxKDFMemoryKiB)
	v.between("kdf_time", int(c.KDFTime), 1, MaxKDFTime)
	v.between("kdf_threads", int(c.KDFThreads), 1, MaxKDFThreads)
	v.between("max_derivations", c.MaxDerivations, 1, MaxDerivations)
	v.between("worker_files", c.WorkerFiles, 0, math.MaxInt32)
	v.between("worker_bytes", c.WorkerBytes, 0, math.MaxInt32)
	v.between("worker_users", c.WorkerUsers, 1, 64)
}

func (v *checker) between(key string, n, lowest, highest int) {
	if n < lowest || n > highest {
		v.fail(key, n, fmt.Sprintf("is not between %d and %d", lowest, highest), "choose a number within these limits")
	}
}

// within reports whether p is dir or lies below it; both are clean and absolute.
func within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, dir+"/")
}
