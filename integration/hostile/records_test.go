package hostile

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// recordSite is a site whose key records are changed: alice is the victim, bob the bystander, carol has old records too.
type recordSite struct {
	*testing.T
	s        *harness.Site
	copy     string
	old      string // copy of the users' records from before their passwords changed
	foreign  string // a record of alice of another site
	mail     map[string][]byte
	password map[string][]byte // of now
}

func recordsDir(s *harness.Site, more ...string) string {
	return filepath.Join(append([]string{s.Store, ".mailcryptfs", "users"}, more...)...)
}

// newRecordSite makes users with mail of before and after a change of password, and mail that came while they were locked.
func newRecordSite(t *testing.T) *recordSite {
	t.Helper()
	other := harness.Start(t, harness.Options{})
	other.Enroll(t, "alice")
	foreign, err := os.ReadFile(recordsDir(other, "alice", "record.toml"))
	must(t, err)
	other.Stop(t)
	r := &recordSite{T: t, s: harness.Start(t, harness.Options{}), foreign: string(foreign), mail: map[string][]byte{}, password: map[string][]byte{}}
	r.old, r.copy = filepath.Join(r.s.StoreFS, "old"), filepath.Join(r.s.StoreFS, "copy")
	for _, u := range []string{"alice", "bob", "carol"} {
		r.s.Enroll(t, u)
		box := harness.Maildir(t, vmail, r.s.View, u)
		r.s.Unlock(t, u)
		r.deliver(u, box+"/new/unlocked")
		r.s.Lock(t, u)
		for i := range 3 { // locking ends the epoch: each has a key of its own
			r.deliver(u, fmt.Sprintf("%s/new/locked%d", box, i))
			r.s.Unlock(t, u)
			r.s.Lock(t, u)
		}
		r.deliver(u, box+"/new/last")
		r.password[u] = []byte("new password of " + u)
	}
	copyTree(t, recordsDir(r.s), r.old)
	for u, password := range r.password {
		r.passwd(u, harness.Password(u), password)
		r.deliver(u, filepath.Join(r.s.View, u, "new/after"))
	}
	r.s.Stop(t)
	copyTree(t, r.s.Store, r.copy)
	return r
}

func (r *recordSite) deliver(u, path string) {
	r.Helper()
	r.mail[path] = text(u, filepath.Base(path), 0, 3000)
	deliver(r, path, r.mail[path])
}

func (r *recordSite) passwd(u string, old, fresh []byte) {
	r.Helper()
	cmd := verb(r, r.s, "passwd", u, "--old-fd", "3", "--new-fd", "4")
	for _, text := range [][]byte{old, fresh} {
		f, w, err := os.Pipe()
		must(r, err)
		_, err = w.Write(text)
		must(r, errors.Join(err, w.Close()))
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		defer func() { _ = f.Close() }()
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		r.Fatalf("passwd: %v: %s", err, out)
	}
}

// recordChange is one thing done to the key records of alice; dir holds them.
type recordChange struct {
	name string
	do   func(r *recordSite, m *rand.Rand, dir string) error
}

func rewriteFile(path string, change func([]byte) []byte) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, change(b), 0o600)
}

// anyRecord is one of the files below dir.
func anyRecord(m *rand.Rand, dir string) string {
	all, _ := filepath.Glob(dir + "/*.toml")
	more, _ := filepath.Glob(dir + "/delivery/*.toml")
	all = append(all, more...)
	slices.Sort(all)
	return all[m.IntN(len(all))]
}

func recordChanges() []recordChange {
	type site = recordSite
	record := func(dir string) string { return dir + "/record.toml" }
	anyKey := func(m *rand.Rand, dir string) string {
		all, _ := filepath.Glob(dir + "/delivery/*.toml")
		return all[m.IntN(len(all))]
	}
	return []recordChange{
		{"flip a bit", func(_ *site, m *rand.Rand, dir string) error {
			return rewriteFile(anyRecord(m, dir), func(b []byte) []byte { b[m.IntN(len(b))] ^= 1 << m.IntN(8); return b })
		}},
		{"flip a digit of a number", func(_ *site, m *rand.Rand, dir string) error {
			return rewriteFile(record(dir), func(b []byte) []byte { return bytes.Replace(b, []byte("memory_kib = 1"), []byte("memory_kib = 9"), 1) })
		}},
		{"cut", func(_ *site, m *rand.Rand, dir string) error {
			return rewriteFile(anyRecord(m, dir), func(b []byte) []byte { return b[:m.IntN(len(b))] })
		}},
		{"empty", func(_ *site, m *rand.Rand, dir string) error { return os.Truncate(anyRecord(m, dir), 0) }},
		{"huge", func(_ *site, m *rand.Rand, dir string) error { return os.Truncate(anyRecord(m, dir), 1<<40) }},
		{"delete", func(_ *site, m *rand.Rand, dir string) error { return os.Remove(anyRecord(m, dir)) }},
		{"delete the records", func(_ *site, _ *rand.Rand, dir string) error { return os.RemoveAll(dir) }},
		{"delete the record and the one before", func(_ *site, _ *rand.Rand, dir string) error {
			return errors.Join(os.Remove(record(dir)), os.RemoveAll(dir+"/record.prev.toml"))
		}},
		{"that of another user", func(r *site, _ *rand.Rand, dir string) error {
			return copyFile(recordsDir(r.s, "bob", "record.toml"), record(dir))
		}},
		{"all of another user", func(r *site, _ *rand.Rand, dir string) error {
			copyTree(r, recordsDir(r.s, "bob"), dir+"x")
			return errors.Join(os.RemoveAll(dir), os.Rename(dir+"x", dir))
		}},
		{"that of another site", func(r *site, _ *rand.Rand, dir string) error {
			return os.WriteFile(record(dir), []byte(r.foreign), 0o600)
		}},
		{"an older one", func(r *site, _ *rand.Rand, dir string) error {
			return copyFile(r.old+"/alice/record.toml", record(dir))
		}},
		{"all older ones", func(r *site, _ *rand.Rand, dir string) error {
			must(r, os.RemoveAll(dir))
			copyTree(r, r.old+"/alice", dir)
			return nil
		}},
		{"a link", func(r *site, _ *rand.Rand, dir string) error {
			return errors.Join(os.Remove(record(dir)), os.Symlink(recordsDir(r.s, "bob", "record.toml"), record(dir)))
		}},
		{"a link in place of the directory", func(r *site, _ *rand.Rand, dir string) error {
			return errors.Join(os.RemoveAll(dir), os.Symlink("bob", dir))
		}},
		{"a pipe", func(_ *site, _ *rand.Rand, dir string) error {
			return errors.Join(os.Remove(record(dir)), mkfifo(record(dir)))
		}},
		{"a directory", func(_ *site, _ *rand.Rand, dir string) error {
			return errors.Join(os.Remove(record(dir)), os.Mkdir(record(dir), 0o700))
		}},
		{"two delivery keys change places", func(_ *site, m *rand.Rand, dir string) error {
			a, b := anyKey(m, dir), anyKey(m, dir)
			if a == b {
				return os.Remove(a)
			}
			return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
		}},
		{"a delivery key of another user", func(r *site, m *rand.Rand, dir string) error {
			all, _ := filepath.Glob(recordsDir(r.s, "bob", "delivery", "*.toml"))
			return copyFile(all[0], filepath.Join(dir, "delivery", filepath.Base(all[0])))
		}},
		{"open to everybody", func(_ *site, m *rand.Rand, dir string) error {
			return errors.Join(os.Chmod(dir, 0o777), os.Chmod(anyRecord(m, dir), 0o666), os.Chown(anyRecord(m, dir), 99, 99))
		}},
		{"a thousand more users", func(r *site, _ *rand.Rand, dir string) error {
			for i := range 1000 {
				if err := os.Mkdir(filepath.Join(filepath.Dir(dir), fmt.Sprint("none", i)), 0o700); err != nil {
					return err
				}
			}
			return nil
		}},
	}
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}

// TestChangedRecords changes key records of one user at random. The others notice nothing, nobody reads anything that is not
// theirs, no key of the intruder's making is ever used, and the daemon starts and answers.
func TestChangedRecords(t *testing.T) {
	r := newRecordSite(t)
	announceDamage(r.s)
	r.s.Announce(`alice`)
	first, all := seed(t), recordChanges()
	rounds := max(*batches, len(all))
	outcomes := map[string]int{}
	for i := range rounds {
		m := rand.New(rand.NewPCG(first+uint64(i), 2))
		c := all[i%len(all)]
		must(t, os.RemoveAll(r.s.Store))
		copyTree(t, r.copy, r.s.Store)
		must(t, c.do(r, m, recordsDir(r.s, "alice")))
		r.s.Serve(t)
		outcomes[c.name+": "+r.judge(c.name)]++
		r.s.Stop(t)
		if bad := mistakes(journal(t, r.s)); len(bad) > 0 {
			t.Errorf("%s: in the daemon's log: %s", c.name, strings.Join(bad[:min(len(bad), 20)], "\n"))
		}
		if t.Failed() {
			t.Fatalf("again with: -run %s -hostile.seed=%d, change %q", t.Name(), first, c.name)
		}
	}
	for _, line := range slices.Sorted(keysOf(outcomes)) {
		t.Logf("%d × %s", outcomes[line], line)
	}
}

func (r *recordSite) judge(change string) string {
	r.Helper()
	for _, u := range []string{"bob", "carol"} {
		if res := r.s.Call(r, r.password[u], "unlock", u); res.Code != 0 {
			r.Fatalf("%s: unlock of %s: %s", change, u, res.Err)
		}
		r.readAll(u, true)
	}
	fresh := r.s.Call(r, r.password["alice"], "unlock", "alice")
	old := r.s.Call(r, harness.Password("alice"), "unlock", "alice")
	if res := r.s.Call(r, r.password["bob"], "unlock", "alice"); res.Code == 0 && fresh.Code != 0 && old.Code != 0 {
		r.Errorf("%s: bob's password opens the mail of alice", change)
	}
	read := r.readAll("alice", false)
	r.newMail(change)
	for _, u := range []string{"alice", "bob", "carol"} {
		if res := r.s.Call(r, nil, "lock", u); res.Code != 0 && u != "alice" {
			r.Errorf("%s: lock of %s: %s", change, u, res.Err)
		}
	}
	if res := r.s.Call(r, nil, "verify", "--json"); res.Code != 0 && res.Code != 65 || strings.Contains(res.Err, "goroutine ") {
		r.Errorf("%s: verify: exit %d: %s", change, res.Code, res.Err)
	}
	what := "nobody's password opens, "
	switch {
	case fresh.Code == 0:
		what = "the password opens, "
	case old.Code == 0:
		what = "the OLD password opens, "
	}
	return fmt.Sprintf("%s%d of %d messages can be read", what, read, len(r.mail)/3)
}

// readAll reads the mail of a user; what can be read is right.
func (r *recordSite) readAll(u string, every bool) (n int) {
	r.Helper()
	for path, want := range r.mail {
		if !strings.HasPrefix(path, filepath.Join(r.s.View, u)+"/") {
			continue
		}
		got, err := read(path)
		switch {
		case err == nil && bytes.Equal(got, want):
			n++
		case err == nil:
			r.Errorf("%s: %d bytes that nobody wrote there", path, len(got))
		case every || !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EIO):
			r.Errorf("%s: %v", path, err)
		case len(got) > 0 && !bytes.HasPrefix(want, got):
			r.Errorf("%s: %d bytes that nobody wrote there", path, len(got))
		}
	}
	return n
}

// newMail delivers to the victim: that works or fails, but never leaves anything in the clear, or under a key of another.
func (r *recordSite) newMail(change string) {
	r.Helper()
	path := filepath.Join(r.s.View, "alice/new/fresh")
	content := text("alice", "fresh", 0, 5000)
	if err := put(path, content); err != nil {
		return
	}
	if found := harness.FindClear(r, []string{"alice|fresh"}, filepath.Dir(storePath(r, r.s, path))); len(found) > 0 {
		r.Errorf("%s: new mail is stored in the clear: %q", change, found)
	}
	if got, err := read(path); err == nil && !bytes.Equal(got, content) {
		r.Errorf("%s: new mail reads as %d other bytes", change, len(got))
	}
	must(r, os.Remove(path))
}

// TestChangedStoreRecord: a daemon does not serve a store whose record is not of its site secret.
func TestChangedStoreRecord(t *testing.T) {
	s := harness.New(t, harness.Options{})
	path := filepath.Join(s.Store, ".mailcryptfs", "store.toml")
	good, err := os.ReadFile(path)
	must(t, err)
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	s.Announce(`store|record`)
	for name, b := range map[string][]byte{"changed": flipped, "cut": good[:len(good)/2], "empty": nil} {
		must(t, os.WriteFile(path, b, 0o600))
		if err := s.TryServe(t); err == nil {
			t.Errorf("%s: the store is served", name)
			s.Stop(t)
		}
		if s.Mounted() {
			t.Errorf("%s: something is mounted", name)
		}
	}
	must(t, os.WriteFile(path, good, 0o600))
	s.Serve(t)
}
