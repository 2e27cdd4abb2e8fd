package harness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Result is what one call of the binary gave.
type Result struct {
	Out, Err string
	Code     int
}

// Call runs a verb of the binary with this site's configuration. A password is given through a pipe; nil gives none.
func (s *Site) Call(t testing.TB, password []byte, verb string, args ...string) Result {
	t.Helper()
	if password == nil {
		return s.CallWith(t, nil, verb, args...)
	}
	return s.CallWith(t, [][]byte{password}, verb, append(args, "--password-fd", "3")...)
}

// CallWith is Call for verbs that want several secrets: they come on the descriptors from 3 on, in this order, which the
// arguments have to name.
func (s *Site) CallWith(t testing.TB, secrets [][]byte, verb string, args ...string) Result {
	t.Helper()
	cmd := exec.Command(Binary(t), append([]string{verb, "--config", s.Config}, args...)...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	for _, secret := range secrets {
		r := passwordPipe(t, secret)
		defer func() { _ = r.Close() }()
		cmd.ExtraFiles = append(cmd.ExtraFiles, r)
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return Result{Out: out.String(), Err: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

// passwordPipe is the reading end of a pipe that holds the password.
func passwordPipe(t testing.TB, password []byte) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(password); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (s *Site) must(t testing.TB, password []byte, verb string, args ...string) string {
	t.Helper()
	r := s.Call(t, password, verb, args...)
	if r.Code != 0 {
		t.Fatalf("mailcryptfs %s %q: exit %d: %s%s", verb, args, r.Code, r.Out, r.Err)
	}
	return r.Out
}

// Password is the password of a user in these tests.
func Password(user string) []byte { return fmt.Appendf(nil, "pass word of %s; ü%%", user) }

// Enroll enrols users, each with Password(user). They stay locked.
func (s *Site) Enroll(t testing.TB, users ...string) {
	t.Helper()
	for _, u := range users {
		s.must(t, Password(u), "enroll", u)
	}
}

// Unlock unlocks users; when it returns their mail can be read.
func (s *Site) Unlock(t testing.TB, users ...string) {
	t.Helper()
	for _, u := range users {
		s.must(t, Password(u), "unlock", u)
	}
}

// Lock locks users; when it returns their mail cannot be opened any more.
func (s *Site) Lock(t testing.TB, users ...string) {
	t.Helper()
	for _, u := range users {
		s.must(t, nil, "lock", u)
	}
}

// Status is the answer to "status --json", as JSON gives it.
func (s *Site) Status(t testing.TB, args ...string) map[string]any {
	t.Helper()
	out := s.must(t, nil, "status", append([]string{"--json"}, args...)...)
	var v map[string]any
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("status --json: %v: %s", err, out)
	}
	return v
}
