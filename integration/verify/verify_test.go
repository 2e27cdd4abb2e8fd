package verify

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/fs/check"
	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// TestWholeStore checks a store beside its daemon, without it, and with a password, for each way to store mail.
func TestWholeStore(t *testing.T) {
	for _, o := range []harness.Options{
		{Names: "encrypted", Delivery: "sealed"},
		{Names: "plain", Delivery: "sealed", User: "%d/%n"},
		{Names: "encrypted", Delivery: "site"},
		{Names: "encrypted", Delivery: "plaintext"},
		{Names: "encrypted", Delivery: "sealed", Plain: "refuse"},
	} {
		t.Run(fmt.Sprint(o.Names, o.Delivery, o.User, o.Plain), func(t *testing.T) {
			s := harness.Start(t, harness.Options{Profile: "dovecot-maildir", Names: o.Names, Delivery: o.Delivery, User: "%u", Plain: o.Plain})
			fill(t, s)
			private := map[string]int64{"sealed": 4, "site": 0, "plaintext": 0}[o.Delivery]
			whole := func(args ...string) check.Summary {
				var a answer
				unchanged(t, s, func() { a = verify(t, s, exOK, args...) })
				if len(a.Findings) != 0 || int64(a.Summary.Locked[bob]) != private || a.Summary.Structure.Files != private {
					t.Errorf("%q: %+v", args, a)
				}
				if n := a.Summary.Full.Files + a.Summary.Structure.Files + a.Summary.Plain.Files; n != 10 {
					t.Errorf("%q: %d files, want 10", args, n)
				}
				return a.Summary
			}
			whole()
			s.Stop(t)
			whole()
			var a answer
			unchanged(t, s, func() { a = verifyAs(t, s, harness.Password(bob), exOK, "--user", bob) })
			if n := a.Summary.Full.Files + a.Summary.Plain.Files; len(a.Findings) != 0 || n != 5 || len(a.Summary.Locked) != 0 {
				t.Errorf("with a password: %+v", a)
			}
		})
	}
}

// TestDamage damages a store beside its daemon and expects each file to be named, and the others not.
func TestDamage(t *testing.T) {
	s := start(t, harness.Options{})
	box := filepath.Join(s.View, alice)
	first := stored(t, s, box+"/new/first")
	index := stored(t, s, filepath.Join(s.View, bob, "dovecot.index.log"))
	record := filepath.Join(s.Store, ".mailcryptfs/users", bob, "record.toml")
	s.Stop(t)
	flip(t, first, 5000)
	flip(t, index, 0)
	flip(t, record, 300)
	var a answer
	unchanged(t, s, func() { a = verify(t, s, exBad) })
	want := map[check.Kind]check.Finding{
		check.BlockDamaged:  {View: box + "/new/first", Store: first, User: alice},
		check.HeaderDamaged: {View: filepath.Join(s.View, bob, "dovecot.index.log"), Store: index, User: bob},
		check.RecordDamaged: {Store: record, User: bob},
	}
	for _, f := range a.Findings {
		w, ok := want[f.Kind]
		if f.Kind == check.KeyUnusable && f.User == bob {
			continue // what follows from the loss of the record
		}
		if !ok || !f.Damage || f.View != w.View || f.Store != w.Store || f.User != w.User {
			t.Errorf("%+v", f)
		}
		delete(want, f.Kind)
	}
	if len(want) != 0 {
		t.Errorf("not found: %+v in %+v", want, a)
	}
	r := s.Call(t, nil, "verify", box)
	if r.Code != exBad || !strings.Contains(r.Out, box+"/new/first") || !strings.Contains(r.Out, first) || strings.Contains(r.Out, index) {
		t.Errorf("exit %d: %s%s", r.Code, r.Out, r.Err)
	}
	if r := s.Call(t, nil, "verify", box+"/cur", box+"/dovecot.index.log"); r.Code != exOK {
		t.Errorf("exit %d: %s%s", r.Code, r.Out, r.Err)
	}
}

// TestMistakes is about exit codes and messages.
func TestMistakes(t *testing.T) {
	s := start(t, harness.Options{})
	other := filepath.Join(filepath.Dir(s.Secret), "other.secret")
	secret, err := os.ReadFile(s.Secret)
	must(t, err)
	for _, tt := range []struct {
		name     string
		password []byte
		args     []string
		code     int
		text     string
	}{
		{"no such file", nil, []string{s.View + "/" + alice + "/none"}, 66, "none"},
		{"outside", nil, []string{"/etc/passwd"}, 64, "/etc/passwd"},
		{"key records", nil, []string{s.Store + "/.mailcryptfs"}, 64, "not in the view"},
		{"wrong password", []byte("wrong"), []string{"--user", alice}, 77, alice},
		{"password of nobody", harness.Password(alice), nil, 64, "--user"},
		{"not enrolled", harness.Password(alice), []string{"--user", "carol@example.org"}, 67, "carol@example.org"},
	} {
		r := s.Call(t, tt.password, "verify", tt.args...)
		if r.Code != tt.code || !strings.Contains(r.Err, tt.text) {
			t.Errorf("%s: exit %d, want %d: %s%s", tt.name, r.Code, tt.code, r.Out, r.Err)
		}
	}
	must(t, os.WriteFile(other, []byte("mailcryptfs-site-secret-1:"+strings.Repeat("5a", 32)+"\n"), 0o400))
	must(t, os.Rename(other, s.Secret))
	if r := s.Call(t, nil, "verify"); r.Code != 78 || !strings.Contains(r.Err, "site secret") || r.Out != "" {
		t.Errorf("another site secret: exit %d: %s%s", r.Code, r.Out, r.Err)
	}
	must(t, os.WriteFile(other, secret, 0o400))
	must(t, os.Rename(other, s.Secret))
	if r := s.Call(t, nil, "verify"); r.Code != exOK {
		t.Errorf("exit %d: %s%s", r.Code, r.Out, r.Err)
	}
}

// load makes changes to a mailbox in the view as servers do, until stop is closed.
func load(view, user string, stop chan struct{}) error {
	box := filepath.Join(view, user)
	for i := 0; ; i++ {
		select {
		case <-stop:
			return nil
		default:
		}
		name := fmt.Sprint(i, ".host")
		if i%3 == 0 {
			name = strings.Repeat("long", 50) + name
		}
		flagged := filepath.Join(box, "cur", name+":2,S")
		if err := deliver(view, user, name, 100+i*997%20000); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(box, "new", name), flagged); err != nil {
			return err
		}
		if err := appendTo(filepath.Join(box, "dovecot.index.log"), 5); err != nil {
			return err
		}
		if i%50 == 0 {
			if err := os.Truncate(filepath.Join(box, "dovecot.index.log"), int64(i%7)*1000); err != nil {
				return err
			}
		}
		if i%2 == 0 {
			if err := os.Remove(flagged); err != nil {
				return err
			}
		}
	}
}

// TestUnderLoad checks a store again and again while it is in use: nothing that is merely changing is called damaged.
func TestUnderLoad(t *testing.T) {
	s := start(t, harness.Options{Epoch: "1s"})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, user := range []string{alice, bob} {
		wg.Go(func() {
			if err := load(s.View, user, stop); err != nil {
				t.Errorf("%s: %v", user, err)
			}
		})
	}
	end := time.Now().Add(10 * time.Second)
	for runs := 0; time.Now().Before(end) || runs < 3; runs++ {
		r := s.Call(t, nil, "verify")
		if r.Code != exOK {
			t.Errorf("exit %d: %s%s", r.Code, r.Out, r.Err)
			break
		}
	}
	close(stop)
	wg.Wait()
	if a := verify(t, s, exOK); a.Summary.Damage != 0 {
		t.Errorf("at rest: %+v", a)
	}
}
