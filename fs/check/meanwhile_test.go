package check

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// start begins a run of which a test makes the steps itself; whatever it finds fails the test.
func (f *fixture) start(ctx context.Context, o Options) *run {
	f.Helper()
	r, err := newRun(ctx, o, func(x Finding) { f.Errorf("%+v", x) })
	must(f, err)
	f.Cleanup(r.close)
	return r
}

// TestConversionEnds has an entry under both its names, as a conversion does, until verify waits to look again.
func TestConversionEnds(t *testing.T) {
	t.Parallel()
	f := standard(t)
	old := filepath.Dir(f.path("alice/cur/x")) + "/one"
	must(t, os.WriteFile(old, []byte("mail"), 0o600))
	synctest.Test(t, func(t *testing.T) {
		done := make(chan error)
		go func() {
			time.Sleep(againPause / 2) // time passes when verify waits, and not before
			done <- os.Remove(old)
		}()
		_, err := Verify(t.Context(), f.options(), func(x Finding) { t.Errorf("%+v", x) })
		must(t, errors.Join(err, <-done))
	})
}

// TestRenamedBetweenNames has a conversion give an entry its new name when that was tried, and the old one was not yet.
func TestRenamedBetweenNames(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start(t.Context(), f.options())
	must(t, os.WriteFile(f.store+"/entry", nil, 0o600))
	tried := 0
	s, ok := r.first("entry", true, func(s names.Stored) bool {
		if tried++; tried == 2 {
			must(t, os.Rename(f.store+"/entry", f.path("entry")))
		}
		return r.counts(r.rootPlace(), s)
	})
	if !ok || s != f.codec.Encrypt("entry") {
		t.Errorf("got %+v, %t", s, ok)
	}
}

// TestRenamedBeforeOpening has a directory, and a file, under stored names that a conversion has just taken away.
func TestRenamedBeforeOpening(t *testing.T) {
	t.Parallel()
	f := standard(t)
	r := f.start(t.Context(), f.options())
	below := make(chan job, 100)
	r.jobs = below
	must(t, r.descend(r.rootPlace(), "alice", names.Stored{Name: "alice"}))
	w := worker{run: r}
	found := false
	for len(below) > 0 {
		j := <-below
		if j.name == "one" {
			found = true
			j.stored = names.Stored{Name: "one"}
			if l := w.look(j); l.gone || l.header == nil || len(l.bad) > 0 {
				t.Errorf("file: %+v", l)
			}
		}
		j.at.dir.Release()
	}
	if !found {
		t.Error("the directory was passed by")
	}
}

// TestHeaderConverted reads the header of a mailbox again and again while it is converted, many times over.
func TestHeaderConverted(t *testing.T) {
	t.Parallel()
	f, o := cyrusStore(t)
	sealed := f.header("uuid/a/b/ab04", "user.alice", "ab04")
	plain, temp := filepath.Dir(sealed)+"/cyrus.header", filepath.Dir(sealed)+"/"+names.Temporary()
	whole := headerText("user.alice", "ab04")
	must(t, os.Rename(sealed, f.store+"/sealed"))
	dir, err := backing.OpenRoot(filepath.Dir(sealed))
	must(t, err)
	defer dir.Release()
	synctest.Test(t, func(t *testing.T) { // so that pauses take no time
		r := f.start(t.Context(), o)
		p := place{dir: dir, name: "ab04", route: r.policy.Root().Child("uuid").Child("a").Child("b").Child("ab04")}
		for range 100 {
			must(t, os.WriteFile(plain, whole, 0o600))
			must(t, os.Link(f.store+"/sealed", temp))
			done := make(chan error)
			go func() { done <- errors.Join(os.Rename(temp, sealed), os.Remove(plain)) }()
			for converted := false; !converted; {
				_, err := os.Lstat(plain)
				converted = err != nil
				if got, bad := r.mailbox(p); bad != nil || got.user() != alice {
					t.Errorf("got %q, %+v", got.user(), bad)
				}
			}
			must(t, <-done)
			must(t, os.Remove(sealed))
		}
	})
}

// TestHandedOver has a mailbox change hands after verify has read its header.
func TestHandedOver(t *testing.T) {
	t.Parallel()
	for _, user := range []account.User{"", alice} {
		f, o := cyrusStore(t)
		f.message("uuid/a/b/ab01/2.", f.now[bob], 5000)
		asked := false
		f.hook = func(u account.User, id secret.ID) {
			if asked || u != alice || id != f.now[bob].ID {
				return
			}
			asked = true
			f.former("ab01", alice)
			must(t, os.Remove(f.path("uuid/a/b/ab01/cyrus.header")))
			f.header("uuid/a/b/ab01", "example.org!user.bob.taken-over", "ab01")
		}
		o.User = user
		s, err := Verify(t.Context(), o, func(x Finding) { t.Errorf("%+v", x) })
		if err != nil || !asked || user == "" && s.Locked[bob] != 3 {
			t.Errorf("%q: %v, %+v", user, err, s)
		}
	}
}

// TestFirstHeader has a mailbox get its header after verify has looked for one.
func TestFirstHeader(t *testing.T) {
	t.Parallel()
	f, o := cyrusStore(t)
	f.message("uuid/a/b/ab03/2.", f.now[alice], 5000)
	r := f.start(t.Context(), o)
	at, err := r.find([]string{"uuid", "a", "b", "ab03", "2."}, false)
	must(t, err)
	f.header("uuid/a/b/ab03", "user.alice", "ab03")
	_, s := f.codec.Decode(at.stored, false)
	(&worker{run: r}).check(job{at: at.place, name: "2.", stored: s})
	if s := r.tally.summary(0); s.Full.Files != 1 {
		t.Errorf("%+v", s)
	}
}

// TestDestroyed has records destroyed between the moment they are opened and the moment they are read.
func TestDestroyed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.enroll(alice)
	ck := f.deliveryKey(alice)
	home, err := f.records.Lock(alice, false)
	must(t, err)
	defer home.Release()
	dir, err := backing.OpenRoot(f.record(alice))
	must(t, err)
	defer dir.Release()
	deliveries, err := dir.OpenDir(deliveryName)
	must(t, err)
	defer deliveries.Release()

	calls := 0
	_, err = parseFile(deliveries, ck.ID.String()+recordSuffix, f.site.RecordMAC, func(b []byte, mac *secret.Key) (*records.Delivery, error) {
		calls++
		must(t, home.DestroyDelivery(ck.ID))
		return records.ParseDelivery(make([]byte, len(b)), mac)
	})
	if calls != 1 || !errors.Is(err, unix.ENOENT) {
		t.Errorf("delivery key: %v after %d calls", err, calls)
	}
	calls = 0
	rec, err := parseFile(dir, recordName, f.site.RecordMAC, func(b []byte, mac *secret.Key) (*records.User, error) {
		if calls++; calls == 1 {
			must(t, home.Purge(func(*records.User) error { return nil }))
			clear(b)
		}
		return records.ParseUser(b, mac)
	})
	if err != nil || calls != 2 || rec.Serial != 2 {
		t.Errorf("record: %+v, %v after %d calls", rec, err, calls)
	}
	calls = 0
	_, err = parseFile(dir, recordName, f.site.RecordMAC, func(b []byte, mac *secret.Key) (*records.User, error) {
		calls++
		return records.ParseUser(b[1:], mac)
	})
	if calls != 1 || !errors.Is(err, records.ErrCorrupt) {
		t.Errorf("a record that is damaged: %v after %d calls", err, calls)
	}
}

// TestForgottenMeanwhile has a user forgotten after verify began to list what there is of him.
func TestForgottenMeanwhile(t *testing.T) {
	t.Parallel()
	f := standard(t)
	f.enroll("erin")
	f.deliveryKey("erin")
	must(t, os.WriteFile(f.record("erin", "notes"), nil, 0o600)) // its finding tells how far verify is
	o := f.options()
	o.Epoch = 48 * time.Hour
	var found []Kind
	_, err := Verify(t.Context(), o, func(x Finding) {
		if found = append(found, x.Kind); x.Kind == Stray {
			f.forget("erin")
		}
	})
	if err != nil || len(found) != 1 {
		t.Errorf("%v, %q", err, found)
	}
}

// TestForgottenHalf has a user's previous record left when his record was destroyed.
func TestForgottenHalf(t *testing.T) {
	t.Parallel()
	f := standard(t)
	f.enroll("erin")
	f.change("erin")
	prev, err := os.ReadFile(f.record("erin", previousName))
	must(t, err)
	f.forget("erin")
	must(t, os.WriteFile(f.record("erin", previousName), prev, 0o600))
	if found, _ := f.verify(f.options()); len(found) != 0 {
		t.Errorf("%+v", found)
	}
	// One that was made since is not what was forgotten.
	must(t, os.Remove(f.record("erin", previousName)))
	f.enroll("erin")
	f.change("erin")
	must(t, os.Remove(f.record("erin", recordName)))
	if found, _ := f.verify(f.options()); len(found) != 1 || found[0].Kind != RecordDamaged {
		t.Errorf("%+v", found)
	}
}

func (f *fixture) forget(u account.User) {
	f.Helper()
	h, err := f.records.Lock(u, false)
	must(f, err)
	defer h.Release()
	_, err = h.Forget("root", time.Now())
	must(f, err)
}
