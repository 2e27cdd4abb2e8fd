package pam_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/pam/unlock"
)

func TestRightPasswordArrivesOnce(t *testing.T) {
	t.Parallel()
	forHosts(t, nil, func(t *testing.T, s *site, _ host, enter login) {
		r := new(recorder)
		s.serve(r)
		if !enter(t, "imap", alice, alicePassword) {
			t.Error("the login failed")
		}
		assertArrived(t, r, loginOf(alice, alicePassword))
		if s.logged("alice") {
			t.Error("the module logs a login that went well")
		}
	})
}

func TestWrongPasswordDoesNotArrive(t *testing.T) {
	t.Parallel()
	forHosts(t, nil, func(t *testing.T, s *site, _ host, enter login) {
		r := new(recorder)
		s.serve(r)
		for _, service := range []string{"imap", "odd"} { // odd: the auth line after a "required" one is reached
			if enter(t, service, alice, "wrong") {
				t.Error("the login succeeded")
			}
		}
		if enter(t, "imap", "nobody-of-that-name", alicePassword) {
			t.Error("the login of an unknown user succeeded")
		}
		assertArrived(t, r)
		if !enter(t, "imap", alice, alicePassword) {
			t.Error("the login failed")
		}
		assertArrived(t, r, loginOf(alice, alicePassword))
	})
}

func TestServicesWithoutTheModule(t *testing.T) {
	t.Parallel()
	forHosts(t, nil, func(t *testing.T, s *site, _ host, enter login) {
		r := new(recorder)
		s.serve(r)
		if !enter(t, "plain", alice, alicePassword) {
			t.Error("the login failed")
		}
		assertArrived(t, r)
	})
}

func TestOddNamesAndPasswords(t *testing.T) {
	t.Parallel()
	forHosts(t, nil, func(t *testing.T, s *site, h host, enter login) {
		r := new(recorder)
		s.serve(r)
		tried := 0
		for user, password := range oddUsers {
			if max(len(user), len(password)) > h.limit {
				continue
			}
			tried++
			if !enter(t, "odd", user, password) {
				t.Errorf("the login of %q failed", user)
			}
			assertArrived(t, r, loginOf(user, password))
			if enter(t, "odd", user, password+"x") {
				t.Errorf("the login of %q with a wrong password succeeded", user)
			}
			assertArrived(t, r)
		}
		if tried < 6 {
			t.Errorf("%d users tried", tried)
		}
	})
}

// uselessDaemon is a daemon that is of no use, and what the log must say about it.
type uselessDaemon struct {
	name  string
	start func(s *site)
	words []string
	waits bool     // whether the time limit passes
	hosts []string // all if nil
}

// options are those of a module that meets it.
func (d uselessDaemon) options() []string {
	if d.waits {
		return []string{impatient}
	}
	return nil
}

// Those that answer are tried in one host: what the module makes of an answer does not depend on the host.
var useless = []uselessDaemon{
	{"not there", func(*site) {}, []string{"No such file", "systemctl status mailcryptfs"}, false, []string{"pamtester"}},
	{"gone", (*site).gone, []string{"Connection refused", "systemctl status mailcryptfs"}, false, nil},
	{"hanging", (*site).hang, []string{"timed out", "limit 1500 ms", "systemctl status mailcryptfs"}, true, nil},
	{"stuffed", (*site).stuff, []string{"timed out", "limit 1500 ms", "systemctl status mailcryptfs"}, true, []string{"pamtester", "dovecot"}},
	{"busy", refuse(unlock.ErrBusy), []string{"too many requests"}, false, []string{"pamtester"}},
	{"no slot opens", refuse(unlock.ErrWrongSecret), []string{"mailcryptfs passwd"}, false, []string{"pamtester"}},
	{"failing", refuse(errors.New("disk full")), []string{"journalctl -u mailcryptfs"}, false, []string{"pamtester"}},
}

// patience is what a login may take beside the time limit on a busy machine; it is far below the limit of a patient site.
const patience = 20 * time.Second

// gone leaves a socket behind to which nobody listens.
func (s *site) gone() {
	s.t.Helper()
	l, err := unlock.Listen(s.socket())
	if err == nil {
		err = l.Close()
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func refuse(err error) func(s *site) {
	return func(s *site) { s.serve(&recorder{fail: fmt.Errorf("user alice: %w", err)}) }
}

func TestUselessDaemonBlocksNoLogin(t *testing.T) {
	t.Parallel()
	for _, d := range useless {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			forHosts(t, d.options(), func(t *testing.T, s *site, _ host, enter login) {
				d.start(s)
				began := time.Now()
				if !enter(t, "imap", alice, alicePassword) {
					t.Error("the login failed")
				}
				took := time.Since(began)
				if d.waits && took < timeLimit || took > timeLimit+patience {
					t.Errorf("it took %v", took)
				}
				if !s.logged(append(d.words, "alice", "the login goes on")...) {
					t.Errorf("no line with %q", d.words)
				}
			}, d.hosts...)
		})
	}
}

func TestRequired(t *testing.T) {
	t.Parallel()
	type outcome struct {
		name    string
		start   func(s *site)
		options []string
		ok      bool
	}
	cases := []outcome{
		{"working", func(s *site) { s.serve(new(recorder)) }, nil, true},
		{"not enrolled", refuse(secret.ErrNotEnrolled), nil, true},
	}
	for _, d := range useless {
		cases = append(cases, outcome{d.name, d.start, d.options(), false})
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			forHosts(t, append(c.options, "required"), func(t *testing.T, s *site, h host, enter login) {
				lines := "@include common-auth\nauth required pam_mailcryptfs.so\n" +
					"@include common-account\naccount required pam_mailcryptfs.so\nsession required pam_mailcryptfs.so\nsession required pam_permit.so\n"
				if !strings.Contains(h.name, "phases") && !strings.Contains(h.name, "session") {
					lines, _, _ = strings.Cut(lines, "session")
				}
				s.service("strict", lines)
				c.start(s)
				if got := enter(t, "strict", alice, alicePassword); got != c.ok {
					t.Errorf("let in: %v", got)
				}
				if !c.ok && !s.logged("alice", "the login is refused") {
					t.Error("no line says that the login was refused")
				}
			}, "pamtester session only", "saslauthd", "dovecot")
		})
	}
}

func TestLoginWithoutPassword(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := new(recorder)
	s.serve(r)
	s.service("keys", "auth required pam_permit.so\nauth optional pam_mailcryptfs.so\n"+
		"account required pam_permit.so\naccount optional pam_mailcryptfs.so\n")
	if out, err := s.run("", "pamtester", "keys", alice, "authenticate", "acct_mgmt"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	s.service("strict", "auth required pam_permit.so\nauth optional pam_mailcryptfs.so\n"+
		"account required pam_permit.so\naccount required pam_mailcryptfs.so required\n")
	if out, err := s.run("", "pamtester", "strict", alice, "authenticate", "acct_mgmt"); err == nil {
		t.Errorf("let in: %s", out)
	}
	if !s.logged("no password came with this login") {
		t.Error("no line says why")
	}
	assertArrived(t, r)
}

// The module alone lets nobody in, whatever its control is: libpam takes PAM_IGNORE as no answer.
func TestModuleAloneLetsNobodyIn(t *testing.T) {
	t.Parallel()
	for _, control := range []string{"required", "requisite", "sufficient", "optional"} {
		s := newSite(t)
		s.serve(new(recorder))
		s.service("alone", fmt.Sprintf("auth %s pam_mailcryptfs.so\naccount required pam_permit.so\n", control))
		s.service("after", fmt.Sprintf("auth required pam_unix.so nodelay\nauth %s pam_mailcryptfs.so\naccount required pam_permit.so\n", control))
		s.service("closed", fmt.Sprintf("auth required pam_unix.so nodelay\nauth optional pam_mailcryptfs.so\n"+
			"account %s pam_mailcryptfs.so\naccount required pam_deny.so\n", control))
		for service, password := range map[string]string{"alone": alicePassword, "after": "wrong", "closed": alicePassword} {
			out, err := s.run(password+"\n", "pamtester", service, alice, "authenticate", "acct_mgmt")
			if exited(t, out, err) {
				t.Errorf("%s, %s: let in: %s", service, control, out)
			}
		}
	}
}

func TestThirtyLoginsAtOnce(t *testing.T) {
	t.Parallel()
	const users = 30
	for _, h := range hosts() {
		if h.name != "dovecot" && h.name != "saslauthd" && h.name != "saslauthd -n 0" {
			continue
		}
		t.Run(h.name, func(t *testing.T) {
			s := newSite(t)
			r := new(recorder)
			s.serve(r)
			var want []string
			for i := range users {
				user := fmt.Sprintf("user%02d", i)
				s.addUser(user, "password of "+user, 3000+i)
				want = append(want, loginOf(user, "password of "+user))
			}
			enter := h.start(s)
			began := time.Now()
			var all sync.WaitGroup
			for i := range users {
				all.Go(func() {
					user := fmt.Sprintf("user%02d", i)
					if !enter(t, "imap", user, "password of "+user) {
						t.Errorf("the login of %s failed", user)
					}
				})
			}
			all.Wait()
			t.Logf("%d logins at once took %v", users, time.Since(began))
			slices.Sort(want)
			assertArrived(t, r, want...)
		})
	}
}

// TestLatency logs what the module adds to a login whose user is unlocked already (the daemon answers at once): many
// logins within one process, with the module and without it. The password is checked by a cheap module. What counts is the
// best round of each, of as many rounds as it takes until both have met a moment at which the machine did nothing else.
func TestLatency(t *testing.T) {
	const logins, least, most, limit = 50, 5, 100, 5 * time.Millisecond
	user := "alice@example.org"
	s := newSite(t)
	r := new(recorder)
	s.serve(r)
	checked := "required pam_userdb.so crypt=none db=" + filepath.Join(s.dir, "odd") + "\n"
	s.service("cheap", "auth "+checked+"account "+checked)
	series := func(service string) time.Duration {
		args := []string{"pamtester", service, user}
		for range logins {
			args = append(args, "authenticate", "acct_mgmt")
		}
		began := time.Now()
		if out, err := s.run(strings.Repeat(oddUsers[user]+"\n", logins), args...); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return time.Since(began) / logins
	}
	best := map[string]time.Duration{"cheap": time.Hour, "odd": time.Hour}
	var rounds int
	var added time.Duration
	for rounds = 0; rounds < least || added > limit && rounds < most; rounds++ {
		for service := range best {
			best[service] = min(best[service], series(service))
		}
		added = best["odd"] - best["cheap"]
	}
	if n := len(r.take()); n != rounds*logins {
		t.Errorf("%d logins arrived, want %d", n, rounds*logins)
	}
	t.Logf("a login takes %v without the module, %v with it, at best of %d rounds: %v more", best["cheap"], best["odd"], rounds, added)
	if added > limit {
		t.Errorf("the module adds %v", added)
	}
}
