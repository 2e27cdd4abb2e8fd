package doctor

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

const module = "pam_mailcryptfs.so"

// services are the PAM services of mail programs: those that exist are judged, the first ones that matter are asked for.
var services = []string{"dovecot", "imap", "pop3", "pop", "sieve", "lmtp", "smtp", "mail"}

// pamStacks looks at the stacks of mail services: whether ours is in them, and whether it is reached.
func pamStacks(_ context.Context, h *Host) []Finding {
	if h.Config.PAM == "" {
		return nil
	}
	var out []Finding
	ours := 0
	for _, s := range services {
		file := "/etc/pam.d/" + s
		if h.read(file) == "" {
			continue
		}
		auth, account := h.stack(file, "auth", 0), h.stack(file, "account", 0)
		inAuth, inAccount := position(auth), position(account)
		switch {
		case inAuth < 0 && inAccount < 0:
			continue
		case inAuth < 0:
			out = append(out, found(Fail, file+" has "+module+" in account, and not in auth", "the module never sees a password: nobody is unlocked",
				"add: auth optional "+module+" (contrib/pam-configs)"))
		case inAccount < 0:
			out = append(out, found(Fail, file+" has "+module+" in auth, and not in account", "the module acts after the login succeeded, in account: nobody is unlocked",
				"add: account optional "+module+" (contrib/pam-configs)"))
		}
		ours++
		out = append(out, reached(file, auth, inAuth)...)
		out = append(out, reached(file, account, inAccount)...)
	}
	if ours == 0 {
		out = append(out, found(Warn, "no PAM service of a mail server has "+module, "logins unlock nobody, unless another feeder does it (post-login script, mailcryptfs unlock)",
			`contrib/pam-configs; or set pam = "" if PAM is not used`))
	}
	return out
}

// pamLine is one line of a stack, with those that it includes in their places.
type pamLine struct{ control, module, file string }

var pamSyntax = regexp.MustCompile(`^-?(auth|account|password|session)\s+(\[[^\]]*\]|\S+)\s+(\S+)`)

// maxIncludes bounds files that include each other.
const maxIncludes = 8

func (h *Host) stack(file, kind string, depth int) []pamLine {
	var out []pamLine
	if depth > maxIncludes {
		return nil
	}
	text := strings.ReplaceAll(h.read(file), "\\\n", " ")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "@include"); ok {
			out = append(out, h.stack(pamFile(strings.TrimSpace(name)), kind, depth+1)...)
			continue
		}
		m := pamSyntax.FindStringSubmatch(line)
		switch {
		case m == nil || m[1] != kind:
		case m[2] == "include" || m[2] == "substack":
			out = append(out, h.stack(pamFile(m[3]), kind, depth+1)...)
		default:
			out = append(out, pamLine{m[2], filepath.Base(m[3]), file})
		}
	}
	return out
}

func pamFile(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return "/etc/pam.d/" + name
}

func position(stack []pamLine) int {
	for i, l := range stack {
		if l.module == module {
			return i
		}
	}
	return -1
}

var jump = regexp.MustCompile(`success=([0-9]+)`)

// reached looks for modules before ours whose success ends the stack, or jumps over it.
func reached(file string, stack []pamLine, ours int) []Finding {
	var out []Finding
	for i := range max(ours, 0) {
		l := stack[i]
		over := 0
		if m := jump.FindStringSubmatch(l.control); m != nil {
			_, _ = fmt.Sscan(m[1], &over) // digits
		}
		if l.control == "sufficient" || strings.Contains(l.control, "success=done") || i+over >= ours {
			out = append(out, found(Fail, fmt.Sprintf("%s: %s %s (of %s) stands before %s", file, l.control, l.module, l.file, module),
				"when it succeeds, our module is not called: that login unlocks nobody", "put "+module+" before it, or after the @include line of common-auth"))
		}
	}
	return out
}

// saslauthd looks for its cache of passwords.
func saslauthd(_ context.Context, h *Host) []Finding {
	var out []Finding
	report := func(s Severity, where string) {
		out = append(out, found(s, where+" runs with -c", "a login from its cache of passwords does not reach PAM and unlocks nobody, and an old password keeps working",
			"remove -c from its options, and restart saslauthd"))
	}
	files, _ := filepath.Glob(h.path("/etc/default/saslauthd*")) // the pattern is good
	for _, f := range append(files, h.path("/etc/sysconfig/saslauthd")) {
		name := "/" + strings.TrimPrefix(strings.TrimPrefix(f, h.Root), "/")
		set := settingsOf(h.read(name), "=")
		if set["START"] != "no" && (hasCache(strings.Fields(set["OPTIONS"])) || hasCache(strings.Fields(set["FLAGS"]))) {
			severity := Warn // Debian ships it like this; a mail server may not ask it at all
			if h.read("/etc/imapd.conf") != "" {
				severity = Fail
			}
			report(severity, "saslauthd by "+name)
		}
	}
	processes, _ := filepath.Glob(h.path("/proc/[0-9]*/cmdline")) // the pattern is good
	for _, p := range processes {
		argv := strings.Split(h.read("/proc/"+filepath.Base(filepath.Dir(p))+"/cmdline"), "\x00")
		if filepath.Base(argv[0]) == "saslauthd" && hasCache(argv[1:]) {
			report(Fail, "saslauthd (process "+filepath.Base(filepath.Dir(p))+")")
			break // its children have the same options
		}
	}
	return out
}

// hasCache looks for -c among options, alone or joined with others that take no value.
func hasCache(options []string) bool {
	for _, o := range options {
		if len(o) > 1 && o[0] == '-' && o[1] != '-' && strings.Trim(o[1:], "cdhlrtvV") == "" && strings.Contains(o, "c") {
			return true
		}
	}
	return false
}
