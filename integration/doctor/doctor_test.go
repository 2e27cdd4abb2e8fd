package doctor

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, nil)) }

const dataErr = 65

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// diagnosis is the answer of doctor --json.
type diagnosis struct {
	Checks   []string
	Findings []struct{ Check, Severity, What, Why, Remedy string }
}

// examine runs the verb. Its exit code must agree with what it found.
func examine(t testing.TB, s *harness.Site) diagnosis {
	t.Helper()
	r := s.Call(t, nil, "doctor", "--json")
	var d diagnosis
	must(t, json.Unmarshal([]byte(r.Out), &d))
	want := 0
	for _, f := range d.Findings {
		if f.Severity == "fail" {
			want = dataErr
		}
		if f.What == "" || f.Why == "" || f.Remedy == "" || !slices.Contains(d.Checks, f.Check) {
			t.Errorf("%+v", f)
		}
	}
	if r.Code != want {
		t.Fatalf("exit %d, want %d: %s%s", r.Code, want, r.Out, r.Err)
	}
	return d
}

// says reports how bad the doctor finds something; "" if it does not find it.
func (d *diagnosis) says(check, what string) string {
	for _, f := range d.Findings {
		if f.Check == check && strings.Contains(f.What, what) {
			return f.Severity
		}
	}
	return ""
}

func (d *diagnosis) want(t testing.TB, severity, check, what string) {
	t.Helper()
	if got := d.says(check, what); got != severity {
		t.Errorf("%s, %q: %q, want %q; found %+v", check, what, got, severity, d.Findings)
	}
}

// configured hides the machine's own /etc/dovecot behind a configuration of the test.
func configured(t testing.TB, lines string) {
	t.Helper()
	const dir = "/etc/dovecot"
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k")) // in the mount namespace of the tests
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	must(t, os.WriteFile(dir+"/dovecot.conf", []byte(lines), 0o644))
}

// TestDovecot lets the installed Dovecot tell its settings.
func TestDovecot(t *testing.T) {
	s := harness.Start(t, harness.Options{Profile: "dovecot-maildir"})
	harness.Run(t, "doveconf", "-h", "mail_temp_dir") // it must be there: see install.sh
	t.Run("wrong", func(t *testing.T) {
		configured(t, `mail_location = maildir:/var/mail/%u:INDEX=/var/indexes/%u
auth_cache_size = 1M
auth_verbose_passwords = plain
mail_temp_dir = /usr
passdb {
  driver = passwd-file
  args = /etc/dovecot/passwd
}
plugin {
  fts = solr
}
`)
		d := examine(t, s)
		d.want(t, "fail", "dovecot", "mail lies in /var/mail, outside of the view")
		d.want(t, "warn", "dovecot", "INDEX lies outside")
		d.want(t, "warn", "dovecot", "auth_cache_size = 1 M")
		d.want(t, "fail", "dovecot", "auth_verbose_passwords = plain")
		d.want(t, "warn", "dovecot", "mail_temp_dir = /usr is on a disk")
		d.want(t, "warn", "dovecot", "no passdb of Dovecot asks PAM")
		d.want(t, "fail", "dovecot", "fts = solr")
	})
	t.Run("right", func(t *testing.T) {
		configured(t, fmt.Sprintf("mail_home = %s/%%d/%%n\nmail_location = maildir:~\nmail_temp_dir = %s\npassdb {\n  driver = pam\n}\n", s.View, harness.Dir(t)))
		if d := examine(t, s); d.says("dovecot", "") != "" {
			t.Errorf("found %+v", d.Findings)
		}
	})
}

// TestSite sees what happens to a site: the daemon ends, mail lands beneath the view, keys are left about.
func TestSite(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice")
	d := examine(t, s)
	d.want(t, "", "mount-guard", "")
	d.want(t, "", "keyring", "")
	d.want(t, "", "store-permissions", "")
	d.want(t, "warn", "recovery", `recovery = "none"`)
	d.want(t, "warn", "recovery", "1 of 1 users have no way back but their password: alice")
	d.want(t, "note", "plain-entries", `plain = "serve"`)
	key := filepath.Join(filepath.Dir(s.Config), "recovery.age")
	r := s.Call(t, nil, "setup", "--recovery", key)
	if r.Code != 0 {
		t.Fatalf("exit %d: %s%s", r.Code, r.Out, r.Err)
	}
	must(t, os.MkdirAll(s.View+"/alice", 0o700))
	must(t, os.WriteFile(s.Store+"/plain", []byte("plain\n"), 0o600))
	must(t, os.Chmod(s.Store, 0o777))
	d = examine(t, s)
	d.want(t, "fail", "recovery-key-on-host", key)
	d.want(t, "warn", "drill", "never tried")
	d.want(t, "", "plain-entries", "")
	d.want(t, "fail", "store-permissions", s.Store+" has mode 0777")
	must(t, os.Chmod(s.Store, 0o755))
	must(t, os.Chmod(s.Secret, 0o444))
	d = examine(t, s)
	d.want(t, "fail", "site-secret", "has mode 0444")
	d.want(t, "note", "audit-log", "cannot be read")
	must(t, os.Chmod(s.Secret, 0o400))
	s.Stop(t)
	d = examine(t, s)
	d.want(t, "fail", "mount-guard", "is not mounted")
	d.want(t, "", "mount-guard", "beneath")
	d.want(t, "note", "recovery", "it is not known who has a way back")
	d.want(t, "warn", "drill", "never tried")
}

// TestOutput has one line for each finding, and strict exit codes.
func TestOutput(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	d := examine(t, s)
	r := s.Call(t, nil, "doctor")
	lines := strings.Split(strings.TrimSuffix(r.Out, "\n"), "\n")
	if len(lines) != len(d.Findings)+1 || !strings.HasPrefix(lines[len(lines)-1], fmt.Sprintf("%d checks: ", len(d.Checks))) {
		t.Errorf("%d lines for %d findings:\n%s", len(lines), len(d.Findings), r.Out)
	}
	if r := s.Call(t, nil, "doctor", "--strict"); r.Code != dataErr {
		t.Errorf("a site without recovery keys passes: exit %d", r.Code)
	}
	if r := s.Call(t, nil, "doctor", "--root", t.TempDir(), "--json"); r.Code != dataErr || !strings.Contains(r.Out, "not mounted") {
		t.Errorf("an empty system: exit %d: %s%s", r.Code, r.Out, r.Err)
	}
}
