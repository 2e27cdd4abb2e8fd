package check

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// recordMutation damages key records. It returns the store path of the first finding.
type recordMutation struct {
	name   string
	do     func(f *fixture) string
	kind   Kind
	detail string
	epoch  time.Duration
}

func (f *fixture) deliveryPath(u account.User) string {
	f.Helper()
	all, err := filepath.Glob(f.record(u, "delivery", "*.toml"))
	must(f, err)
	if len(all) != 1 {
		f.Fatalf("%d delivery keys of %s", len(all), u)
	}
	return all[0]
}

func rewrite(f *fixture, path, old, with string) string {
	f.Helper()
	b, err := os.ReadFile(path)
	must(f, err)
	if !strings.Contains(string(b), old) {
		f.Fatalf("no %q in %s", old, path)
	}
	must(f, os.WriteFile(path, []byte(strings.Replace(string(b), old, with, 1)), 0o600))
	return path
}

var recordMutations = []recordMutation{
	{name: "record, no previous", kind: RecordDamaged, detail: "does not authenticate under the site secret; there is no record.prev.toml",
		do: func(f *fixture) string { return rewrite(f, f.record(bob, "record.toml"), "login", "logon") }},
	{name: "record, previous whole", kind: RecordDamaged, detail: "record.prev.toml (serial 1) is whole",
		do: func(f *fixture) string {
			f.change(bob)
			return rewrite(f, f.record(bob, "record.toml"), "login", "logon")
		}},
	{name: "record missing, previous whole", kind: RecordDamaged, detail: "it is missing; record.prev.toml (serial 1) is whole",
		do: func(f *fixture) string {
			f.change(bob)
			must(f, os.Remove(f.record(bob, "record.toml")))
			return f.record(bob, "record.toml")
		}},
	{name: "previous damaged", kind: RecordDamaged,
		do: func(f *fixture) string {
			f.change(bob)
			return rewrite(f, f.record(bob, "record.prev.toml"), "login", "logon")
		}},
	{name: "record of another user", kind: RecordDamaged, detail: `it is the record of "alice"`,
		do: func(f *fixture) string {
			b, err := os.ReadFile(f.record(alice, "record.toml"))
			must(f, err)
			must(f, os.WriteFile(f.record(bob, "record.toml"), b, 0o600))
			return f.record(bob, "record.toml")
		}},
	{name: "record is a link", kind: RecordDamaged,
		do: func(f *fixture) string {
			must(f, os.Rename(f.record(bob, "record.toml"), f.store+"/moved"))
			must(f, os.Symlink(f.store+"/moved", f.record(bob, "record.toml")))
			return f.record(bob, "record.toml")
		}},
	{name: "record is a directory", kind: RecordDamaged, detail: "not a regular file",
		do: func(f *fixture) string {
			must(f, os.Remove(f.record(bob, "record.toml")))
			must(f, os.Mkdir(f.record(bob, "record.toml"), 0o700))
			return f.record(bob, "record.toml")
		}},
	{name: "record of another version", kind: RecordUnsupported, detail: "version 2",
		do: func(f *fixture) string { return rewrite(f, f.record(bob, "record.toml"), "version = 1", "version = 2") }},
	{name: "delivery key", kind: DeliveryDamaged, detail: "does not authenticate",
		do: func(f *fixture) string { return rewrite(f, f.deliveryPath(bob), "created", "cr3ated") }},
	{name: "delivery key under another name", kind: DeliveryDamaged, detail: "it is delivery key",
		do: func(f *fixture) string {
			id := secret.RandomID()
			must(f, os.Link(f.deliveryPath(bob), f.record(bob, "delivery", id.String()+".toml")))
			return f.record(bob, "delivery", id.String()+".toml")
		}},
	{name: "delivery key lost", kind: UnknownKey,
		do: func(f *fixture) string {
			p := f.deliveryPath(bob)
			must(f, os.Remove(p))
			id, _ := idOf(filepath.Base(p))
			delete(f.keys[bob], id)
			return f.path("bob@example.org/new/delivered")
		}},
	{name: "delivery key not used", kind: DeliveryUnused,
		do: func(f *fixture) string {
			must(f, os.Remove(f.path("bob@example.org/new/delivered")))
			return f.deliveryPath(bob)
		}},
	{name: "delivery key not used yet", epoch: 25 * time.Hour,
		do: func(f *fixture) string {
			must(f, os.Remove(f.path("bob@example.org/new/delivered")))
			return ""
		}},
	{name: "store record", kind: StoreRecord, detail: "does not authenticate",
		do: func(f *fixture) string { return rewrite(f, f.store+"/.mailcryptfs/store.toml", "created", "cr3ated") }},
	{name: "no store record", kind: StoreRecord, detail: "it is missing",
		do: func(f *fixture) string {
			must(f, os.Remove(f.store+"/.mailcryptfs/store.toml"))
			return f.store + "/.mailcryptfs/store.toml"
		}},
	{name: "no key records", kind: StoreRecord,
		do: func(f *fixture) string {
			must(f, os.RemoveAll(f.store+"/.mailcryptfs"))
			return f.store + "/.mailcryptfs"
		}},
	{name: "temporary file", kind: Leftover,
		do: func(f *fixture) string {
			must(f, os.WriteFile(f.record(bob, ".record.toml.tmp"), []byte("mac"), 0o600))
			return f.record(bob, ".record.toml.tmp")
		}},
	{name: "directory without a record", kind: Leftover, detail: "broken off",
		do: func(f *fixture) string {
			must(f, os.Mkdir(f.record("carol"), 0o700))
			return f.record("carol")
		}},
	{name: "file in place of a user", kind: Stray,
		do: func(f *fixture) string {
			must(f, os.WriteFile(f.record("carol"), nil, 0o600))
			return f.record("carol")
		}},
	{name: "no user name", kind: Stray,
		do: func(f *fixture) string {
			p := f.store + "/.mailcryptfs/users/%zz"
			must(f, os.Mkdir(p, 0o700))
			return p
		}},
	{name: "unknown file", kind: Stray,
		do: func(f *fixture) string {
			must(f, os.WriteFile(f.record(bob, "notes"), nil, 0o600))
			return f.record(bob, "notes")
		}},
	{name: "spoilt note", kind: RecordDamaged,
		do: func(f *fixture) string {
			must(f, os.WriteFile(f.record(bob, "used.toml"), []byte("mac"), 0o600))
			return f.record(bob, "used.toml")
		}},
	{name: "record open to others", kind: RecordAccess, detail: "0644",
		do: func(f *fixture) string {
			must(f, os.Chmod(f.record(bob, "record.toml"), 0o644))
			return f.record(bob, "record.toml")
		}},
	{name: "directory open to others", kind: RecordAccess, detail: "0755",
		do: func(f *fixture) string {
			must(f, os.Chmod(f.record(bob), 0o755))
			return f.record(bob)
		}},
	{name: "owner", kind: RecordAccess, detail: "uid 12345",
		do: func(f *fixture) string {
			must(f, os.Chown(f.deliveryPath(bob), 12345, 0))
			return f.deliveryPath(bob)
		}},
}

func TestRecordMutations(t *testing.T) {
	t.Parallel()
	for _, m := range recordMutations {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			f := standard(t)
			path := m.do(f)
			o := f.options()
			o.Epoch = m.epoch
			found, s := f.verify(o)
			if path == "" {
				if len(found) != 0 {
					t.Errorf("%+v", found)
				}
				return
			}
			if len(found) != 1 {
				t.Fatalf("%d findings: %+v", len(found), found)
			}
			if got := found[0]; got.Kind != m.kind || got.Store != path || !strings.Contains(got.Detail, m.detail) {
				t.Errorf("got %+v, want %s in %s with %q", got, m.kind, path, m.detail)
			}
			if s.Findings[m.kind] != 1 || (s.Damage == 0) != m.kind.Informational() {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestKeyWithoutRecord has files whose keys cannot be known because the user's record is damaged.
func TestKeyWithoutRecord(t *testing.T) {
	t.Parallel()
	f := standard(t)
	rewrite(f, f.record(bob, "record.toml"), "login", "logon")
	o := f.options()
	o.Keys = nil
	found, s := f.verify(o)
	if len(found) != 3 || s.Findings[RecordDamaged] != 1 || s.Findings[KeyUnusable] != 2 {
		t.Errorf("%+v", found)
	}
}

// TestHashedUser has a user whose escaped name is a hash, so that only the record tells who it is.
func TestHashedUser(t *testing.T) {
	t.Parallel()
	f := standard(t)
	long := account.User(strings.Repeat("o", 210) + "@example.org")
	f.enroll(long)
	f.locked[long] = true
	f.message(string(long)+"/cur/one", f.now[long], 100)
	o := f.options()
	for _, user := range []account.User{"", long} {
		o.User = user
		found, s := f.verify(o)
		if len(found) != 0 || s.Locked[long] != 1 {
			t.Errorf("%+v %+v", found, s)
		}
	}
}

// TestNotes has the small records of users, which are nothing to report.
func TestNotes(t *testing.T) {
	t.Parallel()
	f := standard(t)
	notes := func(u account.User, do func(h *records.Home) error) {
		t.Helper()
		h, err := f.records.Lock(u, true)
		must(t, err)
		defer h.Release()
		must(t, do(h))
	}
	notes(bob, func(h *records.Home) error { return h.SetPlain(time.Now()) })
	notes(bob, func(h *records.Home) error { return h.SetUsed(nil) })
	notes("dave", func(h *records.Home) error { return h.SetPlain(time.Now()) })
	f.enroll("erin")
	notes("erin", func(h *records.Home) error { _, err := h.Forget("root", time.Now()); return err })
	long := account.User(strings.Repeat("long", 60))
	f.enroll(long)
	notes(long, func(h *records.Home) error { _, err := h.Forget("root", time.Now()); return err })
	found, _ := f.verify(f.options())
	if len(found) != 0 {
		t.Errorf("%+v", found)
	}
}
