package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestDefaultIsValidAndRoundTrips(t *testing.T) {
	t.Parallel()
	c := Default()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	c.Private, c.Meta, c.Epoch, c.Cluster = []string{"*.glass", `a"b\c`}, []string{"x[0-9]"}, 90*time.Minute, true
	got, err := Parse("f", Render(c))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, c) {
		t.Errorf("Parse(Render(c)) = %+v, want %+v", got, c)
	}
}

func TestKeysCoverTheStruct(t *testing.T) {
	t.Parallel()
	described := map[string]bool{}
	for _, k := range Keys() {
		if described[k.Name] {
			t.Errorf("key %s is described twice", k.Name)
		}
		described[k.Name] = true
	}
	typ := reflect.TypeFor[Config]()
	for i := range typ.NumField() {
		if name := typ.Field(i).Tag.Get("toml"); !described[name] {
			t.Errorf("key %q is not described", name)
		}
	}
	if len(described) != typ.NumField() || len(described) > 34 {
		t.Errorf("%d keys described, %d in the struct; the limit is 34", len(described), typ.NumField())
	}
}

func TestParseGood(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"",
		"# only a comment\n",
		"user = \"%d/%n\"\n",
		"user = \"home/%u\"\nprofile = \"dovecot-maildir\"\n",
		"profile = \"dovecot-sdbox\"\nuser = \"%d/%n\"\n",
		"profile = \"cyrus\"\nuser = \"*/%u\"\n",
		"epoch = \"2s\"\nkdf_memory_kib = 19456\nkdf_time = 1\n",
		"delivery = \"plaintext\"\nunenrolled = \"plaintext\"\n",
		"enroll = \"auto\"\nrecovery = \"none\"\n",
		"enroll = \"auto\"\nrecovery = \"optional\"\n",
		"recovery = \"required\"\n",
		"recovery = \"required\"\nrecovery_recipients = [\"age1qqqq\",\n  \"age1pq1qqqq\"]\n",
		"site_secret = \"ask\"\n",
		"site_secret = \"credential:site.secret\"\n",
		"pam = \"\"\nanvil = \"/run/dovecot/anvil\"\ncyrus_proc = \"/var/lib/cyrus/proc\"\n",
		"idle = \"30m\"\ngrace = \"10s\"\nsession_cap = \"12h\"\nworker_files = 50\nworker_bytes = 1000000\n",
		"private = [\"*.glass\"]\nmeta = [\"dovecot.index.cache\"]\ncluster = true\n",
	} {
		if _, err := Parse("f", []byte(text)); err != nil {
			t.Errorf("Parse(%q): %v", text, err)
		}
	}
}

func TestParseBad(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		want       []string // all must be in the message
	}{
		{"unknown key", "store = \"/s\"\nfoo = 1\n", []string{"f:2: foo: unknown key", "mailcryptfs.toml(5)"}},
		{"mistyped key", "\nstroe = \"/s\"\n", []string{"f:2: stroe", `did you mean "store"?`}},
		{"capitals", "Store = \"/s\"\n", []string{"f:1: Store: unknown key", `"store"`}},
		{"dotted", "a.b = 1\na.c = 2\n", []string{"f:1: a: unknown key"}},
		{"unknown table", "[section]\na = 1\n", []string{"f:1: section: unknown key"}},
		{"two faults", "names = \"x\"\nplain = \"y\"\n", []string{"f:1: names", "f:2: plain"}},
		{"syntax", "store = \n", []string{"f:1:"}},
		{"key twice", "store = \"/a\"\nstore = \"/b\"\n", []string{"f:2:", "store"}},
		{"wrong type", "\ncluster = \"yes\"\n", []string{"line 2", "cluster"}},
		{"number too large", "kdf_threads = 300\n", []string{"f:1:", "kdf_threads"}},
		{"negative", "kdf_time = -1\n", []string{"f:1:", "kdf_time"}},
		{"relative path", "store = \"mail\"\n", []string{`f:1: store = "mail"`, "absolute", "begin it with /"}},
		{"unclean path", "store = \"/a//b/\"\n", []string{`write "/a/b"`}},
		{"root", "view = \"/\"\n", []string{"view", "root"}},
		{"empty path", "view = \"\"\n", []string{"view", "empty"}},
		{"newline in path", "view = \"/a\\nb\"\n", []string{"view", "newline"}},
		{"view in store", "store = \"/a\"\nview = \"/a/b\"\n", []string{"f:2: view", "contain each other"}},
		{"store in view", "store = \"/a/b\"\nview = \"/a\"\n", []string{"contain each other"}},
		{"secret in store", "store = \"/a\"\nsite_secret = \"/a/s\"\n", []string{"f:2: site_secret", "outside both"}},
		{"keyring in view", "keyring = \"/srv/mail/k\"\n", []string{"f:1: keyring", "outside both"}},
		{"long socket", "control = \"/" + strings.Repeat("x", 110) + "\"\n", []string{"control", "107"}},
		{"profile", "profile = \"mbox\"\n", []string{`profile = "mbox"`, `"maildir" or "dovecot-maildir"`}},
		{"template without user", "user = \"%d\"\n", []string{"names no user"}},
		{"template absolute", "user = \"/%u\"\n", []string{"below the view"}},
		{"template dots", "user = \"../%u\"\n", []string{`component ".."`}},
		{"template empty component", "user = \"a//%u\"\n", []string{`component ""`}},
		{"template letter", "user = \"%h\"\n", []string{"not %u, %d or %n"}},
		{"template end", "user = \"%u%\"\n", []string{"not %u, %d or %n"}},
		{"template twice", "user = \"%u/%u\"\n", []string{"twice"}},
		{"template mixed", "user = \"%d/%u\"\n", []string{"mixes"}},
		{"template empty", "user = \"\"\n", []string{"is empty"}},
		{"pattern", "private = [\"[\"]\n", []string{`private = "["`, "not a pattern"}},
		{"pattern twice", "private = [\"a\"]\nmeta = [\"a\"]\n", []string{"f:2: meta", "one of the two"}},
		{"delivery", "delivery = \"clear\"\n", []string{`"sealed" or "site" or "plaintext"`}},
		{"plain and delivery", "plain = \"refuse\"\ndelivery = \"plaintext\"\n", []string{"f:1: plain", "serve"}},
		{"epoch without unit", "epoch = 10\n", []string{"f:1: epoch", `"10m"`}},
		{"epoch too long", "epoch = \"25h\"\n", []string{"between 1s and 24h"}},
		{"epoch nonsense", "epoch = \"soon\"\n", []string{"f:1:", "epoch"}},
		{"memory", "kdf_memory_kib = 8192\n", []string{"kdf_memory_kib = 8192", "19456"}},
		{"derivations", "max_derivations = 0\n", []string{"between 1 and 64"}},
		{"auto without recovery", "enroll = \"auto\"\n", []string{`f:1: enroll = "auto"`, `recovery = "none"`}},
		{"recovery", "recovery = \"maybe\"\n", []string{`f:1: recovery = "maybe"`, `"none" or "optional" or "required"`}},
		{"unused recipients", "recovery_recipients = [\"age1q\"]\n", []string{"recovery = \"none\"", "would open nothing"}},
		{"recipient", "recovery = \"required\"\nrecovery_recipients = [\"ssh-ed25519 AAAA\"]\n", []string{"f:2: recovery_recipients = \"ssh-ed25519 AAAA\"", "age1"}},
		{"recipient with a newline", "recovery = \"required\"\nrecovery_recipients = [\"age1q\\nx\"]\n", []string{"f:2: recovery_recipients"}},
		{"recipient twice", "recovery = \"required\"\nrecovery_recipients = [\"age1q\", \"age1q\"]\n", []string{"written twice"}},
		{"long recipient", "recovery = \"required\"\nrecovery_recipients = [\"age1" + strings.Repeat("q", 5000) + "\"]\n", []string{"not the public half"}},
		{"private half", "recovery = \"required\"\nrecovery_recipients = [\"AGE-SECRET-KEY-1NEEDLE\"]\n", []string{"private half", "take it off this machine"}},
		{"many recipients", "recovery = \"required\"\nrecovery_recipients = [" + manyRecipients(17) + "]\n", []string{"17 recovery keys", "at most 16"}},
		{"credential", "site_secret = \"credential:../x\"\n", []string{"f:1: site_secret", "does not name a credential"}},
		{"relative secret", "site_secret = \"secret\"\n", []string{"f:1: site_secret", "absolute"}},
		{"enroll", "enroll = \"always\"\n", []string{"f:1: enroll", `"manual" or "auto"`}},
		{"pam in view", "pam = \"/srv/mail/pam\"\n", []string{"f:1: pam", "outside both"}},
		{"pam is control", "pam = \"/run/mailcryptfs/control.sock\"\n", []string{"f:1: pam", "another path"}},
		{"relative anvil", "anvil = \"anvil\"\n", []string{"f:1: anvil", "absolute"}},
		{"cyrus in store", "cyrus_proc = \"/var/lib/mailcryptfs/store/proc\"\n", []string{"f:1: cyrus_proc"}},
		{"grace", "grace = \"0s\"\n", []string{"f:1: grace", "between 1s and 24h"}},
		{"idle", "idle = \"5ms\"\n", []string{"f:1: idle", `"30m"`}},
		{"cap", "session_cap = \"-1s\"\n", []string{"f:1: session_cap"}},
		{"worker", "worker_files = -1\nworker_users = 0\n", []string{"f:1: worker_files", "f:2: worker_users"}},
		{"log level", "log_level = \"loud\"\n", []string{"log_level"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse("f", []byte(tt.text))
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
		})
	}
}

func TestLoadJudgesTheFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "mailcryptfs.toml")
	if _, err := Load(path); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), path) {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(path, Render(Default()), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err != nil {
		t.Errorf("good file: %v", err)
	}
	if err := os.Chmod(path, 0o664); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
		t.Errorf("writable by the group: %v", err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("directory: %v", err)
	}
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(big); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("large file: %v", err)
	}
}

func TestLoadRefusesAFileOfOthers(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root: run contrib/test.sh with sudo")
	}
	path := filepath.Join(t.TempDir(), "mailcryptfs.toml")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 65534, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "chown root") {
		t.Errorf("file of another user: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("store = \"/a\"\n"))
	f.Add([]byte("[x]\ny = 1\n"))
	f.Add([]byte("epoch = 10\nkdf_time = 99999999999\n"))
	f.Add(Render(Default()))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("f", text)
		if err != nil {
			return
		}
		again, err := Parse("f", Render(c))
		if err != nil {
			t.Fatalf("accepted once, refused when written anew: %v", err)
		}
		if !reflect.DeepEqual(normal(c), normal(again)) {
			t.Errorf("%+v became %+v", c, again)
		}
	})
}

// normal makes nil and empty lists the same.
func normal(c Config) Config {
	c.Private = append([]string{}, c.Private...)
	c.Meta = append([]string{}, c.Meta...)
	c.Recipients = append([]string{}, c.Recipients...)
	return c
}

func TestPAMSocketLiesBesideControl(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                     "/run/mailcryptfs/pam.sock",
		"control = \"/a/control\"\n":           "/a/pam.sock",
		"control = \"/a/c\"\npam = \"\"\n":     "",
		"control = \"/a/c\"\npam = \"/b/p\"\n": "/b/p",
	} {
		if c, err := Parse("f", []byte(text)); err != nil || c.PAM != want {
			t.Errorf("%q: %q, %v; want %q", text, c.PAM, err, want)
		}
	}
}

func manyRecipients(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("\"age1q%d\"", i)
	}
	return strings.Join(all, ", ")
}

// TestPrivateHalfIsNotRepeated looks for a private key that somebody took for the public one in the error.
func TestPrivateHalfIsNotRepeated(t *testing.T) {
	t.Parallel()
	_, err := Parse("f", []byte("recovery = \"required\"\nrecovery_recipients = [\"AGE-SECRET-KEY-1NEEDLE\"]\n"))
	if err == nil || strings.Contains(err.Error(), "NEEDLE") {
		t.Errorf("%v", err)
	}
}

func TestAmend(t *testing.T) {
	t.Parallel()
	c := Default()
	c.Recovery, c.Recipients = "required", []string{"age1one", "age1two"}
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", ""},
		{"no newline at the end", "log_level = \"info\"", "log_level = \"info\"\n"},
		{"replaced", "recovery = \"none\" # why not\n# a remark\nrecovery_recipients = []\nepoch = \"10m\"\n",
			"recovery = \"required\"\n# a remark\nrecovery_recipients = [\"age1one\", \"age1two\"]\nepoch = \"10m\"\n"},
		{"several lines", "recovery=\"optional\"\n recovery_recipients = [\n  \"age1one\", # the first ]\n]\n# end\n",
			"recovery = \"required\"\nrecovery_recipients = [\"age1one\", \"age1two\"]\n# end\n"},
		{"in a comment only", "# recovery_recipients = []\n", "# recovery_recipients = []\n"},
	} {
		got, err := Amend("f", []byte(tt.text), c, "recovery", "recovery_recipients")
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if !strings.HasPrefix(string(got), tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if parsed, err := Parse("f", got); err != nil || !reflect.DeepEqual(parsed.Recipients, c.Recipients) || parsed.Recovery != "required" {
			t.Errorf("%s: %+v, %v", tt.name, parsed, err)
		}
	}
	for name, text := range map[string]string{
		"other settings": "epoch = \"5m\"\n", "key as a quoted string": "\"recovery\" = \"none\"\n", "not valid": "epoch = 1\n",
	} {
		if got, err := Amend("f", []byte(text), c, "recovery", "recovery_recipients"); err == nil {
			t.Errorf("%s: became %q", name, got)
		}
	}
	if _, err := Amend("f", nil, c, "colour"); err == nil {
		t.Error("an unknown key was written")
	}
}

func TestDifferences(t *testing.T) {
	t.Parallel()
	a, b := Default(), Default()
	if got := Differences(a, b); got != nil {
		t.Errorf("%q", got)
	}
	b.Recipients, b.Epoch, b.Cluster = []string{"age1q"}, time.Hour, true
	if got := Differences(a, b); !reflect.DeepEqual(got, []string{"epoch", "recovery_recipients", "cluster"}) {
		t.Errorf("%q", got)
	}
}
