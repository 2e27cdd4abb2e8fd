package recovery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// daemon is a daemon that a test starts by itself, with an environment and pipes of its own.
type daemon struct {
	cmd *exec.Cmd
	log bytes.Buffer
}

// serve starts a daemon for the site, and waits until it answers.
func serve(t *testing.T, s *harness.Site, env []string, pipes map[string]string, args ...string) *daemon {
	t.Helper()
	d := &daemon{}
	argv := append([]string{"serve", "--config", s.Config}, args...)
	var files []*os.File
	for name, text := range pipes {
		r, w, err := os.Pipe()
		must(t, err)
		defer r.Close()
		_, err = w.WriteString(text)
		must(t, err)
		must(t, w.Close())
		files = append(files, r)
		argv = append(argv, "--"+name+"-fd", fmt.Sprint(2+len(files)))
	}
	d.cmd = exec.CommandContext(t.Context(), harness.Binary(t), argv...)
	d.cmd.Env, d.cmd.ExtraFiles = append([]string{"PATH=" + os.Getenv("PATH")}, env...), files
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	d.cmd.Cancel = func() error { return d.cmd.Process.Signal(os.Interrupt) }
	d.cmd.WaitDelay = 30 * time.Second
	must(t, d.cmd.Start())
	harness.Eventually(t, time.Minute, "the daemon's answer", func() bool { return call(t, s, nil, "status").Code == 0 })
	return d
}

func (d *daemon) stop(t *testing.T) {
	t.Helper()
	must(t, d.cmd.Process.Signal(os.Interrupt))
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, d.log.String())
	}
}

// configured changes a line of the configuration file.
func configured(t *testing.T, s *harness.Site, key, value string) {
	t.Helper()
	text, err := os.ReadFile(s.Config)
	must(t, err)
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, key+" = ") {
			lines[i] = key + " = " + value
		}
	}
	must(t, os.WriteFile(s.Config, []byte(strings.Join(lines, "\n")), 0o600))
}

// TestSiteSecretSources: a credential of the unit, a descriptor, and somebody who is asked.
func TestSiteSecretSources(t *testing.T) {
	s := harness.New(t, harness.Options{})
	line, err := os.ReadFile(s.Secret)
	must(t, err)
	must(t, os.Remove(s.Secret))

	// systemd puts credentials into a directory of the service.
	credentials := harness.Dir(t)
	must(t, os.WriteFile(filepath.Join(credentials, "site.secret"), line, 0o400))
	configured(t, s, "site_secret", `"credential:site.secret"`)
	d := serve(t, s, []string{"CREDENTIALS_DIRECTORY=" + credentials}, nil)
	good(t, s, secrets{"password": "long password"}, "enroll", alice)
	d.stop(t)
	bad(t, s, config, "LoadCredentialEncrypted=site.secret", nil, "slot", "list", alice) // the unit's directory is not there
	good(t, s, secrets{"site-secret": string(line)}, "slot", "list", alice)

	// Asked for: through a descriptor here, and through the agent where there is no terminal.
	configured(t, s, "site_secret", `"ask"`)
	d = serve(t, s, nil, map[string]string{"site-secret": string(line)})
	unlocks(t, s, alice, "long password")
	d.stop(t)
	agent := harness.Dir(t)
	must(t, os.WriteFile(filepath.Join(agent, "systemd-ask-password"), fmt.Appendf(nil, "#!/bin/sh\necho %s", line), 0o755))
	path := "PATH=" + agent + ":" + os.Getenv("PATH")
	if tty, err := os.Open("/dev/tty"); err == nil {
		tty.Close() // somebody runs the test on a terminal: the daemon would ask there
	} else {
		d = serve(t, s, []string{path}, nil)
		unlocks(t, s, alice, "long password")
		d.stop(t)
		if bytes.Contains(d.log.Bytes(), bytes.TrimSpace(line)) {
			t.Error("the log holds the site secret")
		}
	}
	bad(t, s, noPerm, "group", secrets{"site-secret": strings.Repeat("0", 80)}, "slot", "list", alice)
}

// TestAudit: who did what to a user's key, from where, is in the log, also what no daemon saw; and the chain is whole.
func TestAudit(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, alice, "bob")
	sheet, key := code(t, s, alice), recoveryKey(t, s)
	unlocks(t, s, alice, password(alice))
	good(t, s, secrets{"old": password(alice), "new": "password two"}, "passwd", alice)
	good(t, s, nil, "rotate", alice)
	s.Stop(t)
	good(t, s, secrets{"code": sheet, "new": "password three"}, "passwd", alice)
	good(t, s, nil, "recovery", "drill", "--recovery-key", key, alice)
	s.Serve(t)
	good(t, s, secrets{"new": "password four"}, "recover", alice, "--recovery-key", key)
	good(t, s, nil, "forget", "bob", "--confirm", "bob")
	s.Announce("user forgotten")

	var events []struct{ What, By, Peer, Cause string }
	must(t, json.Unmarshal([]byte(mustJSON(t, good(t, s, nil, "status", "--user", alice, "--json"), "events")), &events))
	var whats []string
	for _, e := range events {
		whats = append(whats, e.What)
		if e.By == "" || e.Peer == "" && e.What != "slot-add" {
			t.Errorf("nobody did it: %+v", e)
		}
		if strings.Contains(e.Peer, "uid 0, pid ") == (e.What == "slot-add" && e.By == "configuration") {
			t.Errorf("peer %q: %+v", e.Peer, e)
		}
	}
	got := strings.Join(whats, " ")
	for _, want := range []string{"enroll", "slot-add", "password-change", "rotate-start", "recover recover"} {
		if !strings.Contains(got, want) {
			t.Errorf("events %q lack %q", got, want)
		}
	}
	if out := good(t, s, nil, "log", "--json"); !strings.Contains(out, `"drill"`) || !strings.Contains(out, `"forget"`) {
		t.Errorf("%s", out)
	}
	if r := call(t, s, nil, "verify"); r.Code != 0 {
		t.Errorf("verify: exit %d: %s%s", r.Code, r.Out, r.Err)
	}
}

// TestDamagedLog: status shows what is whole of the audit log, and says that the rest is not.
func TestDamagedLog(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, alice)
	code(t, s, alice)
	var changed bool
	must(t, filepath.WalkDir(filepath.Join(s.Store, ".mailcryptfs"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if i := bytes.Index(text, []byte(`"enroll"`)); err == nil && i >= 0 {
			changed = true
			text[i+1] = 'E'
			return os.WriteFile(path, text, 0o600)
		}
		return err
	}))
	if !changed {
		t.Fatal("the audit log was not found")
	}
	out := good(t, s, nil, "status", "--user", alice)
	if !strings.Contains(out, "slot-add") || !strings.Contains(out, "log-damaged") || strings.Contains(out, "enroll,") {
		t.Errorf("%s", out)
	}
	s.Announce("audit")
}

// mustJSON returns a member of a JSON object.
func mustJSON(t *testing.T, text, key string) string {
	t.Helper()
	var v map[string]json.RawMessage
	must(t, json.Unmarshal([]byte(text), &v))
	return string(v[key])
}

// TestDamagedRecord: the previous version of a record is used, and said to be.
func TestDamagedRecord(t *testing.T) {
	both(t, func(t *testing.T, s *harness.Site, b *box, up bool) {
		good(t, s, secrets{"old": password(alice), "new": "password two"}, "passwd", alice)
		s.Stop(t)
		record := filepath.Join(s.Store, ".mailcryptfs/users", alice, "record.toml")
		text, err := os.ReadFile(record)
		must(t, err)
		text[len(text)/2] ^= 1
		must(t, os.WriteFile(record, text, 0o600))
		if up {
			s.Serve(t)
		}
		s.Announce("cannot be served as usual|previous version")
		// The previous version knows the old password; with it, the record is made anew.
		good(t, s, secrets{"old": password(alice), "new": "password three"}, "passwd", alice)
		if !up {
			s.Serve(t)
		}
		good(t, s, secrets{"password": "password three"}, "unlock", alice)
		b.readable(t, s)
	})
}
