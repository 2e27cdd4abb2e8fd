package pam_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/pam/unlock"
)

const newPassword = "Tr0ub4dor & 3 %s/@ß"

// asAlice changes alice's password as she would; it returns what passwd wrote, and whether it succeeded.
func (s *site) asAlice(old, new string) (string, bool) {
	s.t.Helper()
	id := strconv.Itoa(aliceID)
	out, err := s.run(old+"\n"+new+"\n"+new+"\n", "setpriv", "--reuid", id, "--regid", id, "--clear-groups", "passwd")
	return out, exited(s.t, out, err)
}

// asRoot sets alice's password without the old one.
func (s *site) asRoot(new string) (string, bool) {
	s.t.Helper()
	out, err := s.run(new+"\n"+new+"\n", "passwd", alice)
	return out, exited(s.t, out, err)
}

// assertPassword checks which of two passwords lets alice in.
func (s *site) assertPassword(right, wrong string) {
	s.t.Helper()
	for password, want := range map[string]bool{right: true, wrong: false} {
		out, err := s.run(password+"\n", "pamtester", "plain", alice, "authenticate", "acct_mgmt")
		if got := exited(s.t, out, err); got != want {
			s.t.Errorf("let in with %q: %v; want %v", password, got, want)
		}
	}
}

func TestPasswordChange(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := new(recorder)
	s.serve(r)
	if out, ok := s.asAlice("wrong", newPassword); ok {
		t.Errorf("changed with a wrong old password: %s", out)
	}
	if out, ok := s.asAlice(alicePassword, "x"); ok {
		t.Errorf("changed to a password that is too short: %s", out)
	}
	assertArrived(t, r)
	if out, ok := s.asAlice(alicePassword, newPassword); !ok {
		t.Errorf("not changed: %s", out)
	}
	assertArrived(t, r, fmt.Sprintf("change %q %q %q", alice, alicePassword, newPassword))
	s.assertPassword(newPassword, alicePassword)
}

func TestPasswordReset(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := new(recorder)
	s.serve(r)
	if out, ok := s.asRoot(newPassword); !ok {
		t.Errorf("not set: %s", out)
	}
	assertArrived(t, r, fmt.Sprintf("reset %q %q", alice, newPassword))
	s.assertPassword(newPassword, alicePassword)

	r.mu.Lock()
	r.fail = unlock.ErrWrongSecret
	r.mu.Unlock()
	if out, ok := s.asRoot("yet another one"); !ok {
		t.Errorf("not set: %s", out)
	}
	if !s.logged("alice", "the old password is needed", "mailcryptfs passwd") {
		t.Error("no line says what to do")
	}
}

func TestUselessDaemonBlocksNoPasswordChange(t *testing.T) {
	t.Parallel()
	for _, d := range useless {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, d.options()...)
			d.start(s)
			began := time.Now()
			if out, ok := s.asAlice(alicePassword, newPassword); !ok {
				t.Errorf("not changed: %s", out)
			}
			if took := time.Since(began); d.waits && took < timeLimit || took > timeLimit+patience {
				t.Errorf("it took %v", took)
			}
			if !s.logged("alice", "mailcryptfs passwd") {
				t.Error("no line says what to do")
			}
			s.assertPassword(newPassword, alicePassword)
		})
	}
}

func TestPasswordChangeRequired(t *testing.T) {
	t.Parallel()
	s := newSite(t, "required")
	s.service("passwd", "@include common-password\npassword required pam_mailcryptfs.so\n")
	if out, ok := s.asAlice(alicePassword, newPassword); ok {
		t.Errorf("passwd is content though nobody listens: %s", out)
	}
	if !s.logged("alice", "No such file", "mailcryptfs passwd") {
		t.Error("no line says what to do")
	}
	r := &recorder{fail: secret.ErrNotEnrolled}
	s.serve(r)
	if out, ok := s.asRoot(newPassword); !ok {
		t.Errorf("not changed: %s", out)
	}
	assertArrived(t, r, fmt.Sprintf("reset %q %q", alice, newPassword))
}
