package recovery

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// copied copies the store of a site that does not run.
func copied(t *testing.T, s *harness.Site) string {
	t.Helper()
	dir := filepath.Join(harness.Dir(t), "copy")
	harness.Run(t, "cp", "-a", s.Store, dir)
	return dir
}

// TestOtherMachine: all that is left is a copy of the store and the recovery key. No configuration, no site secret, no
// daemon.
func TestOtherMachine(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	key := recoveryKey(t, s)
	s.Enroll(t, alice)
	b := newBox(t, s, alice)
	for range 3 {
		b.deliver(t, "new", 5000)
	}
	s.Stop(t)
	store := copied(t, s)
	dir := harness.Dir(t)
	nowhere := []string{"--config", filepath.Join(dir, "none.toml"), "--store", store}
	run := func(code int, in secrets, args ...string) harness.Result {
		t.Helper()
		r := callIn(t, in, "", append(args, nowhere...)...)
		if r.Code != code {
			t.Errorf("%q: exit %d, want %d: %s%s", args, r.Code, code, r.Out, r.Err)
		}
		return r
	}
	run(noPerm, secrets{"new": "long password"}, "recover", alice, "--recovery-key", recoveryKey(t, harness.New(t, harness.Options{})))
	run(config, secrets{"new": "long password", "code": "x"}, "recover", alice)
	run(0, secrets{"new": "long password"}, "recover", alice, "--recovery-key", key)
	run(0, nil, "recovery", "drill", "--recovery-key", key)
	secret := filepath.Join(dir, "site.secret")
	run(0, nil, "recover", "--site-secret", "--recovery-key", key, "--output", secret)
	was, err := os.ReadFile(s.Secret)
	must(t, err)
	if now, err := os.ReadFile(secret); err != nil || !bytes.Equal(now, was) {
		t.Errorf("the site secret is another one: %v", err)
	}
	run(cantCreate, nil, "recover", "--site-secret", "--recovery-key", key, "--output", secret)

	// The new machine takes over.
	other := harness.New(t, harness.Options{})
	must(t, os.RemoveAll(other.Store))
	harness.Run(t, "cp", "-a", store, other.Store)
	must(t, os.Remove(other.Secret))
	good(t, other, nil, "recover", "--site-secret", "--recovery-key", key)
	other.Serve(t)
	good(t, other, secrets{"password": "long password"}, "unlock", alice)
	b.readable(t, other)
	// The user sees what was done while no daemon ran.
	var events []string
	for _, e := range other.Status(t, "--user", alice)["events"].([]any) {
		events = append(events, e.(map[string]any)["what"].(string))
	}
	if got := strings.Join(events, " "); !strings.Contains(got, "enroll") || !strings.Contains(got, "recover") {
		t.Errorf("events %q", got)
	}
}

// TestSiteSecretOnPaper prints the secret and types it again.
func TestSiteSecretOnPaper(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, alice)
	out := good(t, s, nil, "recovery", "paper")
	var typed []string
	for line := range strings.SplitSeq(out, "\n") {
		for _, group := range strings.Fields(line) {
			if len(group) == 12 && strings.Count(group, "-") == 2 {
				typed = append(typed, group)
			}
		}
	}
	if len(typed) != 8 {
		t.Fatalf("%d groups: %s", len(typed), out)
	}
	s.Stop(t)
	was, err := os.ReadFile(s.Secret)
	must(t, err)
	must(t, os.Remove(s.Secret))
	if err := s.TryServe(t); err == nil {
		t.Error("the daemon runs without its site secret")
	}
	s.Announce("site secret")
	wrong := append([]string{}, typed...)
	wrong[2] = "0000-0000-00"
	bad(t, s, noPerm, "group 3", secrets{"site-secret": strings.Join(wrong, " ")}, "recover", "--site-secret")
	foreign := harness.New(t, harness.Options{})
	line, err := os.ReadFile(foreign.Secret)
	must(t, err)
	bad(t, s, config, "made with", secrets{"site-secret": string(line)}, "recover", "--site-secret")
	good(t, s, secrets{"site-secret": strings.ToUpper(strings.Join(typed, " "))}, "recover", "--site-secret")
	if now, err := os.ReadFile(s.Secret); err != nil || !bytes.Equal(now, was) {
		t.Errorf("%v", err)
	}
	s.Serve(t)
	unlocks(t, s, alice, password(alice))
	page := filepath.Join(harness.Dir(t), "site.html")
	good(t, s, nil, "recovery", "paper", "--sheet", page)
	if text, err := os.ReadFile(page); err != nil || !bytes.Contains(text, []byte("<svg")) {
		t.Errorf("%.100s, %v", text, err)
	}
}

var seedLine = regexp.MustCompile(`seed = "([0-9a-f]{32,})"`)

// seeds are the private halves of n requests, which stay in a directory of the server.
func seeds(t *testing.T, state string, n int) (all []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(state, "*"))
	must(t, err)
	for _, path := range files {
		text, err := os.ReadFile(path)
		must(t, err)
		for _, m := range seedLine.FindAllStringSubmatch(string(text), -1) {
			all = append(all, m[1])
		}
	}
	if len(all) != n {
		t.Fatalf("%d private halves of %d requests in %q", len(all), n, files)
	}
	return all
}

// TestRequest: the recovery key stays on a machine of its own, which has nothing else of the site.
func TestRequest(t *testing.T) {
	both(t, func(t *testing.T, s *harness.Site, b *box, up bool) {
		key := recoveryKey(t, s)
		unlocks(t, s, alice, password(alice))
		s.Enroll(t, "bob")
		dir := harness.Dir(t)
		file := func(name string) string { return filepath.Join(dir, name) }
		state := "--state=" + filepath.Join(dir, "state")
		without(t, s, up, func() {
			good(t, s, nil, "recover", alice, "--request", file("a.req"), state)
			good(t, s, nil, "recover", "bob", "--request", file("b.req"), state)
			if found := harness.FindClear(t, append(seeds(t, file("state"), 2), "AGE-SECRET-KEY", "seed ="), file("a.req")); len(found) > 0 {
				t.Errorf("secrets in the request: %q", found)
			}
			bad(t, s, cantCreate, "is there already", nil, "recover", alice, "--request", file("a.req"), state)
			bad(t, s, noUser, "not enrolled", nil, "recover", "dave", "--request", file("d.req"), state)

			// There: no configuration, no store.
			there := func(code int, args ...string) {
				t.Helper()
				r := callIn(t, nil, "", append([]string{"recover", "--yes", "--config", file("none")}, args...)...)
				if r.Code != code || code == 0 && !strings.Contains(r.Err, "fingerprint") {
					t.Errorf("%q: exit %d, want %d: %s%s", args, r.Code, code, r.Out, r.Err)
				}
			}
			there(0, "--approve", file("a.req"), "--recovery-key", key, "--answer", file("a.ans"))
			there(0, "--approve", file("b.req"), "--recovery-key", key, "--answer", file("b.ans"))
			there(usage, "--approve", file("a.req"), "--recovery-key", key)
			there(cantCreate, "--approve", file("a.req"), "--recovery-key", key, "--answer", file("a.ans"))
			there(noPerm, "--approve", file("a.req"), "--recovery-key", recoveryKey(t, harness.New(t, harness.Options{})), "--answer", file("x.ans"))
			cut(t, file("a.req"), file("cut.req"))
			there(dataErr, "--approve", file("cut.req"), "--recovery-key", key, "--answer", file("x.ans"))
			there(dataErr, "--approve", file("a.ans"), "--recovery-key", key, "--answer", file("x.ans"))

			// Here again.
			fresh := secrets{"new": "long password"}
			cut(t, file("a.ans"), file("cut.ans"))
			bad(t, s, dataErr, "cut short", fresh, "recover", alice, "--apply", file("cut.ans"), state)
			bad(t, s, noPerm, "not for this user", fresh, "recover", alice, "--apply", file("b.ans"), state)
			bad(t, s, noPerm, "was not made here", fresh, "recover", alice, "--apply", file("a.ans"), "--state", file("other"))
			flip(t, file("a.ans"), file("bad.ans"))
			bad(t, s, dataErr, "damaged", fresh, "recover", alice, "--apply", file("bad.ans"), state)
			good(t, s, fresh, "recover", alice, "--apply", file("a.ans"), state)
			bad(t, s, noPerm, "used already", secrets{"new": "other password"}, "recover", alice, "--apply", file("a.ans"), state)
		})
		refused(t, s, alice, password(alice))
		good(t, s, secrets{"password": "long password"}, "unlock", alice)
		b.readable(t, s)
		var whats []string
		for line := range strings.SplitSeq(good(t, s, nil, "log", alice, "--json"), "\n") {
			var e struct{ What string }
			if json.Unmarshal([]byte(line), &e) == nil {
				whats = append(whats, e.What)
			}
		}
		if got := strings.Join(whats, " "); !strings.Contains(got, "recovery-request") || !strings.Contains(got, "recovery-approve") || !strings.Contains(got, "recover ") {
			t.Errorf("the audit log says %q", got)
		}
	})
}

// cut copies the first half of a file.
func cut(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, b[:len(b)/2], 0o600))
}

// flip copies a file with one letter of its long value changed.
func flip(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	must(t, err)
	i := bytes.Index(b, []byte("sealed = \"")) + 40
	if b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	must(t, os.WriteFile(to, b, 0o600))
}
