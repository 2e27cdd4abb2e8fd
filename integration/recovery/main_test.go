package recovery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, nil)) }

// Exit codes of sysexits(3head) that scripts rely on.
const (
	usage, dataErr, noInput, noUser, unavailable, osErr, cantCreate, ioErr, tempFail, noPerm, config = 64, 65, 66, 67, 69, 71, 73, 74, 75, 77, 78
)

const alice = "alice"

// secrets are given to a verb through pipes: the flag that takes a descriptor, and what is in the pipe.
type secrets map[string]string

// call runs a verb with secrets.
func call(t *testing.T, s *harness.Site, in secrets, args ...string) harness.Result {
	t.Helper()
	return callIn(t, in, "", append(args, "--config", s.Config)...)
}

// callIn runs a verb with secrets and with text as its standard input.
func callIn(t *testing.T, in secrets, stdin string, args ...string) harness.Result {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), harness.Binary(t))
	for name, text := range in {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := w.WriteString(text); err != nil {
			t.Fatal(err)
		}
		w.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, r)
		args = append(args, "--"+name+"-fd", fmt.Sprint(2+len(cmd.ExtraFiles)))
	}
	cmd.Args = append(cmd.Args, args...)
	var out, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	for _, text := range in {
		if len(text) >= 10 && strings.Contains(out.String()+stderr.String(), text) {
			t.Errorf("%q printed a secret", args)
		}
	}
	return harness.Result{Out: out.String(), Err: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

// good runs a verb that must succeed.
func good(t *testing.T, s *harness.Site, in secrets, args ...string) string {
	t.Helper()
	r := call(t, s, in, args...)
	if r.Code != 0 {
		t.Fatalf("mailcryptfs %q: exit %d: %s%s", args, r.Code, r.Out, r.Err)
	}
	return r.Out
}

// bad runs a verb that must fail with the code and say something.
func bad(t *testing.T, s *harness.Site, code int, says string, in secrets, args ...string) {
	t.Helper()
	if r := call(t, s, in, args...); r.Code != code || !strings.Contains(r.Err, says) {
		t.Errorf("mailcryptfs %q: exit %d, want %d; want %q: %s%s", args, r.Code, code, says, r.Out, r.Err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// box is the maildir of a user with messages, and what they say.
type box struct {
	site *harness.Site
	user string
	mail map[string]string // path below the user's directory → text
}

func newBox(t *testing.T, s *harness.Site, user string) *box {
	t.Helper()
	b := &box{site: s, user: user, mail: map[string]string{}}
	for _, dir := range []string{"cur", "new", "tmp", ".Archive/cur", ".Archive/new", ".Archive/tmp"} {
		must(t, os.MkdirAll(filepath.Join(s.View, user, dir), 0o755))
	}
	return b
}

// deliver puts a message into the mailbox as a delivery agent does.
func (b *box) deliver(t *testing.T, dir string, size int) {
	t.Helper()
	name := fmt.Sprintf("1700000%03d.M%d.host", len(b.mail), len(b.mail))
	text := fmt.Sprintf("From: x\nSubject: %s %s\n\n%s", b.user, name, strings.Repeat("0123456789abcde\n", size/16))
	root := filepath.Join(b.site.View, b.user)
	temp := filepath.Join(root, filepath.Dir(dir), "tmp", name)
	f, err := os.Create(temp)
	must(t, err)
	_, err = f.WriteString(text)
	must(t, errors.Join(err, f.Sync(), f.Close()))
	must(t, os.Rename(temp, filepath.Join(root, dir, name)))
	b.mail[filepath.Join(dir, name)] = text
}

// readable fails the test unless every message can be read, in the view of the site.
func (b *box) readable(t *testing.T, s *harness.Site) {
	t.Helper()
	for path, want := range b.mail {
		got, err := os.ReadFile(filepath.Join(s.View, b.user, path))
		if err != nil || string(got) != want {
			t.Errorf("%s of %s: %d bytes, want %d, %v", path, b.user, len(got), len(want), err)
		}
	}
}

// locked fails the test if a message can be opened, or is not there any more.
func (b *box) locked(t *testing.T) {
	t.Helper()
	b.fails(t, os.ErrPermission)
}

// fails fails the test unless every message refuses to be opened with that error.
func (b *box) fails(t *testing.T, want error) {
	t.Helper()
	for path := range b.mail {
		if f, err := os.Open(filepath.Join(b.site.View, b.user, path)); err == nil {
			f.Close()
			t.Errorf("%s of %s opens", path, b.user)
			return
		} else if !errors.Is(err, want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// unlocks fails the test unless the password unlocks the user; the user is locked afterwards.
func unlocks(t *testing.T, s *harness.Site, user, password string) {
	t.Helper()
	good(t, s, secrets{"password": password}, "unlock", user)
	good(t, s, nil, "lock", user)
}

// refused fails the test if the password unlocks the user.
func refused(t *testing.T, s *harness.Site, user, password string) {
	t.Helper()
	bad(t, s, noPerm, "wrong password", secrets{"password": password}, "unlock", user)
}

// password is what the harness enrols the user with.
func password(user string) string { return string(harness.Password(user)) }

// code adds a recovery code and returns it.
func code(t *testing.T, s *harness.Site, user string) string {
	t.Helper()
	out := good(t, s, secrets{"password": password(user)}, "slot", "add", "--recovery-code", "--json", user)
	var v struct{ ID, Code string }
	if err := json.Unmarshal([]byte(out), &v); err != nil || v.Code == "" {
		t.Fatalf("%v: %s", err, out)
	}
	return v.Code
}

// recoveryKey makes a recovery key for the site, and returns the file of its private half.
func recoveryKey(t *testing.T, s *harness.Site, more ...string) string {
	t.Helper()
	file := filepath.Join(harness.Dir(t), "recovery.key")
	good(t, s, nil, append([]string{"setup", "--recovery", file}, more...)...)
	return file
}

// listed is a slot as slot list --json shows it.
type listed struct {
	ID, Kind, Label, Recipient string
	By                         string `json:"created_by"`
}

func slots(t *testing.T, s *harness.Site, user string) []listed {
	t.Helper()
	var all []listed
	must(t, json.Unmarshal([]byte(good(t, s, nil, "slot", "list", "--json", user)), &all))
	return all
}

func kinds(all []listed) []string {
	var out []string
	for _, s := range all {
		out = append(out, s.Kind)
	}
	slices.Sort(out)
	return out
}

// both runs a test with the daemon and without it; after the body without it, the daemon is started.
func both(t *testing.T, f func(t *testing.T, s *harness.Site, b *box, up bool)) {
	t.Helper()
	for name, up := range map[string]bool{"daemon": true, "store": false} {
		t.Run(name, func(t *testing.T) {
			s := harness.Start(t, harness.Options{})
			s.Enroll(t, alice)
			b := newBox(t, s, alice)
			for range 3 {
				b.deliver(t, "new", 5000)
			}
			f(t, s, b, up)
		})
	}
}

// without stops the daemon unless up, runs f, and starts it again.
func without(t *testing.T, s *harness.Site, up bool, f func()) {
	t.Helper()
	if !up {
		s.Stop(t)
		defer s.Serve(t)
	}
	f()
}
