package recovery

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

const hooks = "../../contrib/passwd-hooks/"

// hooked runs a hook with text on its standard input and the environment that points it at this site.
func hooked(t *testing.T, s *harness.Site, stdin string, env []string, argv ...string) (string, int) {
	t.Helper()
	// The hooks call one program; this one knows the configuration of the test.
	wrapper := filepath.Join(harness.Dir(t), "mailcryptfs")
	text := fmt.Sprintf("#!/bin/sh\nexec %s \"$1\" --config %s \"$2\" \"$3\" \"$4\"\n", harness.Binary(t), s.Config)
	must(t, os.WriteFile(wrapper, []byte(text), 0o755))
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), append(env, "MAILCRYPTFS="+wrapper)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "password of the user") {
		t.Errorf("%q printed a secret: %s", argv, out)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// TestStdin: the one command that all hooks use.
func TestStdin(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, alice)
	for _, tt := range []struct {
		in, user string
		code     int
	}{
		{"wrong\nnew password\n", alice, noPerm},
		{password(alice) + "\n", alice, usage},
		{password(alice) + "\nnew\nthird\n", alice, usage},
		{"\nnew password\n", alice, noPerm}, // an administrator's reset: nobody knows the old one
		{password(alice) + "\n\n", alice, noPerm},
		{"old\nnew\n", "nobody", noUser},
		{"old\nnew\n", "--store=/tmp", noUser}, // a user name is no flag
		{password(alice) + "\nnew password\n", alice, 0},
		{"new password\nthird password", alice, 0},
	} {
		r := callIn(t, nil, tt.in, "passwd", "--config", s.Config, "--stdin", "--", tt.user)
		if r.Code != tt.code {
			t.Errorf("%q %s: exit %d, want %d: %s", tt.in, tt.user, r.Code, tt.code, r.Err)
		}
	}
	unlocks(t, s, alice, "third password")
}

func TestPostfixAdmin(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	const user = "alice@example.org"
	s.Enroll(t, user)
	script := hooks + "postfixadmin.sh"
	fresh := `new password of the user; with "quotes", $HOME and \n`
	run := func(code int, stdin, user string) {
		t.Helper()
		if out, got := hooked(t, s, stdin, nil, script, user, "example.org"); got != code {
			t.Errorf("exit %d, want %d: %s", got, code, out)
		}
	}
	run(noPerm, "wrong\x00"+fresh+"\x00", user)
	run(usage, password(user), user)
	run(0, "x\x00y\x00", "nobody@example.org") // has no key: no reason to refuse the change
	unlocks(t, s, user, password(user))
	run(0, password(user)+"\x00"+fresh+"\x00", user)
	unlocks(t, s, user, fresh)
}

// TestDockerMailserver puts a program in the place of the container's setup, which asks for the password as that does.
func TestDockerMailserver(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	const user = "alice@example.org"
	s.Enroll(t, user)
	accounts := filepath.Join(harness.Dir(t), "accounts")
	setup := filepath.Join(harness.Dir(t), "setup")
	must(t, os.WriteFile(setup, fmt.Appendf(nil, `#!/bin/bash
[ "$1 $2" = "email update" ] || exit 64
[ "$3" = %q ] || { echo "no such account" >&2; exit 1; }
read -r -s password
[ "$password" != refused ] && echo "$3|$password" >%q
`, user, accounts), 0o755))
	env := []string{"SETUP=" + setup}
	run := func(code int, old, fresh, user string) {
		t.Helper()
		if out, got := hooked(t, s, old+"\n"+fresh+"\n", env, hooks+"docker-mailserver.sh", user); got != code {
			t.Errorf("exit %d, want %d: %s", got, code, out)
		}
	}
	fresh := `new password of the user`
	run(noPerm, "wrong", fresh, user)
	if _, err := os.Stat(accounts); err == nil {
		t.Error("the account was changed although the old password was wrong")
	}
	run(1, password(user), "refused", user)
	unlocks(t, s, user, password(user)) // changed back
	run(0, password(user), fresh, user)
	if text, err := os.ReadFile(accounts); err != nil || string(text) != user+"|"+fresh+"\n" {
		t.Errorf("%q, %v", text, err)
	}
	unlocks(t, s, user, fresh)
}

// TestRoundcube runs the driver in PHP, with the few things of Roundcube that it uses.
func TestRoundcube(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	const user = "alice@example.org"
	s.Enroll(t, user)
	dir := harness.Dir(t)
	driver, err := os.ReadFile(hooks + "roundcube/mailcryptfs.php")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "mailcryptfs.php"), driver, 0o600))
	// The driver of the login password: fails for one password.
	must(t, os.WriteFile(filepath.Join(dir, "sql.php"), []byte(`<?php
class rcube_sql_password {
    public function save($currpass, $newpass, $username) {
        file_put_contents(__DIR__ . '/account', "$username|$newpass");
        return $newpass === 'refused by the database' ? PASSWORD_ERROR : PASSWORD_SUCCESS;
    }
}`), 0o600))
	command := fmt.Sprintf("['%s', 'passwd', '--config', '%s', '--stdin', '--']", harness.Binary(t), s.Config)
	must(t, os.WriteFile(filepath.Join(dir, "run.php"), []byte(`<?php
define('PASSWORD_SUCCESS', 0); define('PASSWORD_ERROR', 2); define('PASSWORD_CONNECT_ERROR', 3); define('PASSWORD_CONSTRAINT_VIOLATION', 5);
class config { public function get($name, $default = null) {
    return ['password_mailcryptfs_cmd' => `+command+`, 'password_mailcryptfs_driver' => 'sql'][$name] ?? $default; } }
class rcmail { public $config; static function get_instance() { $r = new rcmail(); $r->config = new config(); return $r; } }
class rcube { static function raise_error($e) { fwrite(STDERR, $e['message'] . "\n"); } }
require __DIR__ . '/mailcryptfs.php';
list($old, $new) = explode("\n", stream_get_contents(STDIN));
echo (new rcube_mailcryptfs_password())->save($old, $new, $argv[1]);
`), 0o600))
	change := func(old, fresh, user string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "php", filepath.Join(dir, "run.php"), user)
		cmd.Stdin = strings.NewReader(old + "\n" + fresh)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("php (package php-cli): %v: %s", err, out)
		}
		return string(bytes.TrimSpace(out))
	}
	fresh := "new password of the user; ü"
	if got := change("wrong", fresh, user); got != "5" {
		t.Errorf("a wrong password: %s", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "account")); err == nil {
		t.Error("the account was changed although the old password was wrong")
	}
	if got := change("x", fresh, "nobody@example.org"); got != "0" {
		t.Errorf("a user without a key: %s", got)
	}
	if got := change(password(user), "refused by the database", user); got != "2" {
		t.Errorf("a failing database: %s", got)
	}
	unlocks(t, s, user, password(user)) // changed back
	if got := change(password(user), fresh, user); got != "0" {
		t.Errorf("a change: %s", got)
	}
	unlocks(t, s, user, fresh)
	if text, err := os.ReadFile(filepath.Join(dir, "account")); err != nil || string(text) != user+"|"+fresh {
		t.Errorf("%q, %v", text, err)
	}
}
