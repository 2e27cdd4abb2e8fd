package memory

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// verbs are all verbs of the binary, without those that only lead to others: each has a manual page.
func verbs(t testing.TB) (all []string) {
	t.Helper()
	dir := t.TempDir()
	harness.Run(t, harness.Binary(t), "man", dir)
	pages, err := filepath.Glob(dir + "/mailcryptfs-*.1")
	must(t, err)
	for _, page := range pages {
		stem := strings.TrimSuffix(page, ".1")
		if !slices.ContainsFunc(pages, func(p string) bool { return strings.HasPrefix(p, stem+"-") }) {
			all = append(all, strings.ReplaceAll(strings.TrimPrefix(filepath.Base(stem), "mailcryptfs-"), "-", " "))
		}
	}
	return all
}

// secretFlag is a flag that seems to be about a secret, with the kind of its value in the help text: the number of an open
// descriptor, or a file. A flag without a value gives none away.
var secretFlag = regexp.MustCompile(`(?m)^\s+--(\S*(?:pass|secret|code|key|old|new)\S*)[ =](\S+)   `)

// TestNoSecretsInArguments: no verb has a flag whose value is a secret.
func TestNoSecretsInArguments(t *testing.T) {
	seen := 0
	for _, v := range verbs(t) {
		help := harness.Run(t, append(append([]string{harness.Binary(t)}, strings.Fields(v)...), "--help")...)
		for _, m := range secretFlag.FindAllStringSubmatch(help, -1) {
			seen++
			if kind := m[2]; kind != "N" && kind != "file" && kind != "directory" {
				t.Errorf("%s --%s %s: a secret in an argument?", v, m[1], kind)
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d flags for secrets were found", seen)
	}
}

// step is one call of a verb: arguments, secrets that it gets through descriptors, and the secrets that it may print, since
// that is its purpose.
type step struct {
	args   []string
	fds    map[string]string // flag without "-fd", secret
	prints string            // "code", "site", "key": what its output may show
	code   int               // exit code; anyCode for those that judge the machine
}

// anyCode is the exit code of a verb that judges what is not the matter here.
const anyCode = -1

// observer runs verbs and remembers what anybody could see of them.
type observer struct {
	*testing.T
	s       *harness.Site
	secrets map[string]string // by what they are
	all     []string
	ran     map[string]bool
}

// run calls a verb and judges what it shows: its messages, and its and its children's arguments and environment meanwhile.
func (o *observer) run(st step) string {
	o.Helper()
	args := append(slices.Clone(st.args), "--config", o.s.Config)
	cmd := exec.Command(harness.Binary(o))
	var files []*os.File
	for _, flag := range slices.Sorted(maps.Keys(st.fds)) {
		r, w, err := os.Pipe()
		must(o, err)
		cmd.ExtraFiles = append(cmd.ExtraFiles, r)
		files = append(files, r)
		args = append(args, "--"+flag+"-fd", fmt.Sprint(2+len(cmd.ExtraFiles)))
		_, err = w.WriteString(st.fds[flag])
		must(o, errors.Join(err, w.Close()))
	}
	cmd.Args = append(cmd.Args, args...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	must(o, cmd.Start())
	done := make(chan struct{})
	var wg sync.WaitGroup
	var seen string
	wg.Go(func() { seen = processes(cmd.Process.Pid, done) })
	err := cmd.Wait()
	close(done)
	wg.Wait()
	for _, f := range files {
		_ = f.Close()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || st.code != anyCode && cmd.ProcessState.ExitCode() != st.code {
		o.Fatalf("%q: exit %d, want %d: %s%s", st.args, cmd.ProcessState.ExitCode(), st.code, &out, &stderr)
	}
	what := strings.Join(st.args, " ")
	o.judge(what+": its messages", stderr.String(), "")
	o.judge(what+": its output", out.String(), st.prints)
	o.judge(what+": its arguments or environment", seen, "")
	for _, v := range o.all {
		if what == v || strings.HasPrefix(what, v+" ") {
			o.ran[v] = true
		}
	}
	return out.String()
}

func (o *observer) judge(where, text, except string) {
	o.Helper()
	for what, secret := range o.secrets {
		if what != except && strings.Contains(text, secret) {
			o.Errorf("%s: show the %s", where, what)
		}
	}
}

// processes gathers arguments and environment of a process and of all whose parent it is, until done.
func processes(pid int, done <-chan struct{}) string {
	var all strings.Builder
	for {
		for _, p := range append(children(pid), fmt.Sprint(pid)) {
			for _, file := range []string{"cmdline", "environ"} {
				if b, err := os.ReadFile("/proc/" + p + "/" + file); err == nil && all.Len() < 1<<20 {
					all.Write(b)
				}
			}
		}
		select {
		case <-done:
			return all.String()
		default:
		}
	}
}

func children(pid int) []string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	return strings.Fields(string(b))
}

// TestVerbsShowNoSecrets runs every verb there is and looks at what it shows. A verb that is new has to be added here.
func TestVerbsShowNoSecrets(t *testing.T) {
	s := harness.New(t, harness.Options{})
	dir := harness.Dir(t)
	key := filepath.Join(dir, "recovery.key")
	o := &observer{T: t, s: s, all: verbs(t), ran: map[string]bool{}, secrets: map[string]string{
		"password": "correct horse 1 ü", "second password": "battery staple 2", "third password": "trustno1 and 3", "wrong password": "wrong password 4",
	}}
	o.secrets["site secret"] = strings.TrimSpace(strings.TrimPrefix(readAll(t, s.Secret), "mailcryptfs-site-secret-1:"))
	first, second, third := o.secrets["password"], o.secrets["second password"], o.secrets["third password"]

	// A site of its own for setup, which makes a recovery key; this site takes its public half.
	other := filepath.Join(dir, "other.toml")
	setup := exec.Command(harness.Binary(t), "setup", "--config", other, "--store", dir+"/store", "--view", dir+"/view", "--keyring", dir+"/keyring",
		"--control", dir+"/control", "--site-secret", dir+"/site.secret", "--recovery", key)
	must(t, os.Mkdir(dir+"/view", 0o755))
	out, err := setup.CombinedOutput()
	if err != nil {
		t.Fatalf("setup: %v: %s", err, out)
	}
	t.Cleanup(func() {
		_ = exec.Command("umount", dir+"/keyring").Run()
		_ = exec.Command("chattr", "-i", dir+"/view").Run()
	})
	o.ran["setup"] = true
	for line := range strings.Lines(readAll(t, key)) {
		if strings.HasPrefix(line, "AGE-SECRET-KEY") {
			o.secrets["recovery key"] = strings.TrimSpace(line)
		}
	}
	if o.secrets["recovery key"] == "" {
		t.Fatal("setup made no recovery key")
	}
	o.judge("setup", string(out), "")
	recipients := regexp.MustCompile(`(?m)^recovery_recipients = .*\n|^recovery_keys = .*\n|^recovery = .*\n`).FindAllString(readAll(t, other), -1)
	addLines(t, s, strings.Join(recipients, ""))
	s.Serve(t)
	o.ran["serve"] = true
	box := harness.Maildir(t, 0, s.View, "alice")
	must(t, os.WriteFile(box+"/cur/1.host:2,S", []byte("From: a\n\ntext\n"), 0o600))

	for _, st := range []step{
		{args: []string{"version"}},
		{args: []string{"enroll", "alice"}, fds: map[string]string{"password": first}},
		{args: []string{"enroll", "bob"}, fds: map[string]string{"password": first}},
		{args: []string{"unlock", "alice"}, fds: map[string]string{"password": o.secrets["wrong password"]}, code: 77},
		{args: []string{"unlock", "alice"}, fds: map[string]string{"password": first}},
		{args: []string{"who"}}, {args: []string{"status"}}, {args: []string{"status", "--user", "alice"}},
		{args: []string{"register", "alice", "--pid", fmt.Sprint(os.Getpid())}},
		{args: []string{"encrypt", "alice", "--wait"}},
		{args: []string{"decrypt", "alice", "--dry-run"}},
		{args: []string{"passwd", "alice"}, fds: map[string]string{"old": first, "new": second}},
		{args: []string{"passwd", "alice"}, fds: map[string]string{"old": first, "new": second}, code: 77},
		{args: []string{"slot", "add", "alice", "--label", "phone"}, fds: map[string]string{"password": second, "new": third}},
		{args: []string{"slot", "list", "alice"}},
		{args: []string{"verify"}}, {args: []string{"verify", "--user", "alice"}, fds: map[string]string{"password": second}},
		{args: []string{"export", "alice", dir + "/export"}, fds: map[string]string{"password": second}},
		{args: []string{"rotate", "alice", "--wait"}},
		{args: []string{"recovery", "paper"}, prints: "site secret"},
		{args: []string{"recovery", "drill", "--recovery-key", key}},
		{args: []string{"recovery", "split", "--recovery-key", key, "--shares", "3", "--needed", "2", "--to", dir}},
		{args: []string{"doctor"}, code: anyCode}, {args: []string{"leaktest", "alice"}, code: anyCode},
		{args: []string{"log"}}, {args: []string{"lock", "alice"}},
		{args: []string{"recover", "alice", "--recovery-key", key}, fds: map[string]string{"new": first}},
	} {
		o.run(st)
	}
	o.codes(dir, key)
	shares, err := filepath.Glob(dir + "/*share*")
	must(t, err)
	if len(shares) != 3 {
		t.Fatalf("shares: %q", shares)
	}
	for i, share := range shares {
		o.secrets[fmt.Sprint("share ", i)] = longest(readAll(t, share))
	}
	o.run(step{args: []string{"recovery", "combine", shares[0], shares[2], "--to", dir + "/combined"}})
	o.run(step{args: []string{"forget", "bob", "--confirm", "bob"}})
	s.Announce(`wrong secret|no slot opens|user forgotten`)
	o.judge("the daemon's log", readAll(t, filepath.Join(filepath.Dir(s.Config), "log")), "")
	if found := harness.FindClear(t, slices.Collect(maps.Values(o.secrets)), s.Store); len(found) > 0 {
		t.Errorf("in the store: %q", found)
	}
	for _, v := range o.all {
		if !o.ran[v] {
			t.Errorf("no step runs %q: add one, with the secrets that it takes", v)
		}
	}
}

// codes makes a recovery code, uses it, and revokes it.
func (o *observer) codes(dir, key string) {
	o.Helper()
	shown := o.run(step{args: []string{"slot", "add", "--recovery-code", "alice"}, fds: map[string]string{"password": o.secrets["password"]}, prints: "code"})
	lines := regexp.MustCompile(`(?m)^ +([0-9A-Z]{5}(?:-[0-9A-Z]{5})+)$`).FindAllStringSubmatch(shown, -1)
	if len(lines) == 0 {
		o.Fatalf("no recovery code in %q", shown)
	}
	code := ""
	for i, line := range lines {
		code += line[1] + "-"
		o.secrets[fmt.Sprint("code, line ", i)] = line[1]
	}
	o.run(step{args: []string{"recover", "alice", "--recovery-code"}, fds: map[string]string{"code": code, "new": o.secrets["second password"]}})
	list := o.run(step{args: []string{"slot", "list", "alice"}})
	for line := range strings.Lines(list) {
		if strings.Contains(line, "phone") {
			o.run(step{args: []string{"slot", "revoke", "alice", regexp.MustCompile(`[0-9a-f]{16}`).FindString(line)}})
		}
	}
}

// longest is the longest line of a text.
func longest(text string) (l string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); len(line) > len(l) {
			l = line
		}
	}
	return l
}
