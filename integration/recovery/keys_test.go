package recovery

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// surveyed is what status --recovery --json says of a user.
type surveyed struct {
	User    string
	Codes   int
	Keys    int `json:"recovery_keys"`
	Retired int
	Missing []string
	NoWay   bool `json:"no_way_back"`
}

func survey(t *testing.T, s *harness.Site) map[string]surveyed {
	t.Helper()
	var all []surveyed
	must(t, json.Unmarshal([]byte(good(t, s, nil, "status", "--recovery", "--json")), &all))
	out := map[string]surveyed{}
	for _, u := range all {
		out[u.User] = u
	}
	return out
}

// counted waits until the daemon has counted, and compares.
func counted(t *testing.T, s *harness.Site, missing, noWay float64) {
	t.Helper()
	var r map[string]any
	harness.Eventually(t, time.Minute, "the count of users", func() bool {
		r, _ = s.Status(t)["recovery"].(map[string]any)
		return r["missing_key"] == missing && r["no_way_back"] == noWay
	})
}

// TestRecipients follows a recovery key through its life: made while users are there, spread, retired.
func TestRecipients(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, alice, "bob")
	counted(t, s, 0, 2)
	key := recoveryKey(t, s)
	counted(t, s, 2, 2)
	if got := survey(t, s); len(got[alice].Missing) != 1 || !got[alice].NoWay || got[alice].Keys != 0 {
		t.Errorf("%+v", got)
	}
	// At the next unlock; whoever is enrolled now has it at once.
	unlocks(t, s, alice, password(alice))
	s.Enroll(t, "carol")
	counted(t, s, 1, 1)
	if got := survey(t, s); got[alice].Keys != 1 || got["carol"].Keys != 1 || got["bob"].Keys != 0 {
		t.Errorf("%+v", got)
	}
	// A second key, of the other kind; then the first is retired by hand.
	second := recoveryKey(t, s, "--classic")
	text, err := os.ReadFile(s.Config)
	must(t, err)
	for _, u := range []string{alice, "bob", "carol"} {
		unlocks(t, s, u, password(u))
	}
	counted(t, s, 0, 0)
	first := recipient(t, key)
	if !strings.HasPrefix(first, "age1pq1") || strings.HasPrefix(recipient(t, second), "age1pq1") {
		t.Errorf("kinds of keys: %.20s, %.20s", first, recipient(t, second))
	}
	must(t, os.WriteFile(s.Config, []byte(strings.Replace(string(text), `"`+first+`", `, "", 1)), 0o600))
	must(t, syscall.Kill(s.PID(), syscall.SIGHUP))
	s.WaitLog(t, "msg=reloaded")
	harness.Eventually(t, time.Minute, "the reload", func() bool { return survey(t, s)[alice].Retired == 1 })
	unlocks(t, s, alice, password(alice))
	if got := survey(t, s); got[alice].Retired != 0 || got[alice].Keys != 1 || got["bob"].Retired != 1 {
		t.Errorf("%+v", got)
	}
	bad(t, s, noPerm, "recovery key", secrets{"new": "long password"}, "recover", alice, "--recovery-key", key)
	good(t, s, secrets{"new": "long password"}, "recover", alice, "--recovery-key", second)
	unlocks(t, s, alice, "long password")
	good(t, s, secrets{"new": "long password"}, "recover", "bob", "--recovery-key", key) // who was not there since
}

// recipient returns the public half that stands in the file of a recovery key.
func recipient(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	_, rest, _ := strings.Cut(string(text), "# public key: ")
	line, _, _ := strings.Cut(rest, "\n")
	return line
}

// TestReload: what cannot work changes nothing, and what needs a restart is named.
func TestReload(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, alice)
	recoveryKey(t, s)
	text, err := os.ReadFile(s.Config)
	must(t, err)
	hangup := func(content string) {
		must(t, os.WriteFile(s.Config, []byte(content), 0o600))
		must(t, syscall.Kill(s.PID(), syscall.SIGHUP))
	}
	hangup(string(text) + "recovery_recipients = []\n") // written twice
	s.WaitLog(t, "level=ERROR msg=.the configuration was not reloaded")
	must(t, os.WriteFile(s.Config, text, 0o600))
	if r, _ := s.Status(t)["recovery"].(map[string]any); r["recovery_keys"] != 1.0 || r["policy"] != "required" {
		t.Errorf("%v", r)
	}
	hangup(strings.Replace(string(text), `epoch = "10m"`, `epoch = "5m"`, 1))
	s.WaitLog(t, "level=WARN msg=.these settings need a restart.*epoch")
	must(t, os.WriteFile(s.Config, text, 0o600))
}

// TestRequired: nobody gets a key that only a password opens, if that is the rule.
func TestRequired(t *testing.T) {
	s := harness.New(t, harness.Options{})
	text, err := os.ReadFile(s.Config)
	must(t, err)
	must(t, os.WriteFile(s.Config, append(text, "recovery = \"required\"\n"...), 0o600))
	s.Serve(t)
	bad(t, s, config, "setup --recovery", secrets{"password": password(alice)}, "enroll", alice)
	bad(t, s, noUser, "not enrolled", nil, "status", "--user", alice)
	recoveryKey(t, s)
	s.Enroll(t, alice)
	if got := kinds(slots(t, s, alice)); !slices.Equal(got, []string{"password", "recovery"}) {
		t.Errorf("%q", got)
	}
}

func TestDrill(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "bob")
	key := recoveryKey(t, s)
	s.Enroll(t, alice)
	type result struct {
		Users []struct {
			User  string
			Opens bool
			NoWay bool `json:"no_way_back"`
		}
		SiteSecret string `json:"site_secret"`
		Failed     int
	}
	drill := func(code int, args ...string) result {
		t.Helper()
		r := call(t, s, nil, append([]string{"recovery", "drill", "--json"}, args...)...)
		var v result
		if err := json.Unmarshal([]byte(r.Out), &v); err != nil || r.Code != code {
			t.Errorf("exit %d, want %d: %v: %s%s", r.Code, code, err, r.Out, r.Err)
		}
		return v
	}
	v := drill(dataErr, "--recovery-key", key)
	if v.Failed != 1 || len(v.Users) != 2 || !v.Users[0].Opens || v.Users[1].Opens || !v.Users[1].NoWay || v.SiteSecret != "opens" {
		t.Errorf("%+v", v)
	}
	unlocks(t, s, "bob", password("bob"))
	if v := drill(0, "--recovery-key", key); v.Failed != 0 || !v.Users[1].Opens {
		t.Errorf("%+v", v)
	}
	if v := drill(0, "--recovery-key", key, alice); len(v.Users) != 1 {
		t.Errorf("%+v", v)
	}
	s.Stop(t)
	if v := drill(0, "--recovery-key", key); v.Failed != 0 {
		t.Errorf("%+v", v)
	}
	// A damaged slot is found: a byte of it, with the record's MAC made good again, would need the site secret; so the
	// whole record goes.
	dir := filepath.Join(s.Store, ".mailcryptfs/users", alice)
	for _, name := range []string{"record.toml", "record.prev.toml"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			b[len(b)/2] ^= 1
			must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
		}
	}
	if v := drill(dataErr, "--recovery-key", key); v.Failed != 1 || v.Users[0].Opens {
		t.Errorf("%+v", v)
	}
	bad(t, s, usage, "--recovery-key", nil, "recovery", "drill")
}

func TestSplit(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, alice)
	key := recoveryKey(t, s)
	unlocks(t, s, alice, password(alice))
	dir := harness.Dir(t)
	other := harness.Dir(t)
	good(t, s, nil, "recovery", "split", "--recovery-key", key, "--shares", "4", "--needed", "2", "--to", dir)
	good(t, s, nil, "recovery", "split", "--recovery-key", key, "--shares", "4", "--needed", "2", "--to", other)
	bad(t, s, cantCreate, "is there already", nil, "recovery", "split", "--recovery-key", key, "--to", dir)
	bad(t, s, dataErr, "AGE-SECRET-KEY", nil, "recovery", "split", "--recovery-key", s.Config, "--to", harness.Dir(t))
	bad(t, s, usage, "at least 2", nil, "recovery", "split", "--recovery-key", key, "--needed", "1", "--to", harness.Dir(t))
	share := func(dir string, n string) string { return filepath.Join(dir, "share-"+n+".txt") }
	private, err := os.ReadFile(key)
	must(t, err)
	secretLine := string(private[strings.Index(string(private), "AGE-SECRET-KEY"):])
	if found := harness.FindClear(t, []string{strings.TrimSpace(secretLine)}, dir); len(found) > 0 {
		t.Errorf("a share holds the key: %q", found)
	}
	back := filepath.Join(harness.Dir(t), "back.key")
	good(t, s, nil, "recovery", "combine", share(dir, "4"), share(dir, "2"), "--to", back)
	if got, err := os.ReadFile(back); err != nil || string(got) != string(private) {
		t.Errorf("%q, %v", got, err)
	}
	if out := good(t, s, nil, "recovery", "combine", share(dir, "1"), share(dir, "2"), share(dir, "3")); out != string(private) {
		t.Errorf("%q", out)
	}
	bad(t, s, noInput, "more shares", nil, "recovery", "combine", share(dir, "1"))
	bad(t, s, noInput, "more shares", nil, "recovery", "combine", share(dir, "1"), share(dir, "1"))
	bad(t, s, dataErr, "belong together", nil, "recovery", "combine", share(dir, "1"), share(other, "2"))
	bad(t, s, noInput, "no such file", nil, "recovery", "combine", share(dir, "9"), share(dir, "1"))
	half, err := os.ReadFile(share(dir, "3"))
	must(t, err)
	must(t, os.WriteFile(share(dir, "3"), half[:len(half)/2], 0o600))
	bad(t, s, dataErr, "cut short", nil, "recovery", "combine", share(dir, "1"), share(dir, "3"))
	good(t, s, secrets{"new": "long password"}, "recover", alice, "--recovery-key", back)
	unlocks(t, s, alice, "long password")
}
