package records

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

// newDir sets a store up.
func newDir(tb testing.TB, keys *site.Keys) *Dir {
	tb.Helper()
	d, err := Create(tb.TempDir(), keys.RecordMAC, begin)
	must(tb, err)
	tb.Cleanup(d.Close)
	return d
}

// goodUser is alice's record out of the vectors.
func goodUser(tb testing.TB, keys *site.Keys) *User {
	tb.Helper()
	rec, err := ParseUser(loadVector(tb, filepath.Join(vectorDir, "user-good")).record, keys.RecordMAC)
	must(tb, err)
	return rec
}

func create(tb testing.TB, d *Dir, rec *User) {
	tb.Helper()
	h, err := d.Lock(rec.User, true)
	must(tb, err)
	defer h.Release()
	must(tb, h.Create(rec))
}

func setLabel(label string) func(*User) error {
	return func(rec *User) error { rec.Slots[0].Label = label; return nil }
}

func changeLabel(d *Dir, u account.User, label string) error {
	h, err := d.Lock(u, false)
	if err != nil {
		return err
	}
	defer h.Release()
	return h.Update(setLabel(label))
}

func TestStore(t *testing.T) {
	t.Parallel()
	keys := siteKeys(t)
	store := t.TempDir()
	if _, err := Open(store, keys.RecordMAC); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "setup") {
		t.Errorf("before: %v", err)
	}
	d, err := Create(store, keys.RecordMAC, begin)
	must(t, err)
	d.Close()
	if _, err := Create(store, keys.RecordMAC, begin); !errors.Is(err, ErrExists) {
		t.Errorf("twice: %v", err)
	}
	again, err := Open(store, keys.RecordMAC)
	must(t, err)
	defer again.Close()
	if again.Store() != d.Store() || again.Store().ID == [16]byte{} {
		t.Errorf("%+v became %+v", d.Store(), again.Store())
	}
	other, err := site.Derive(fill(7, 32))
	must(t, err)
	defer other.Wipe()
	if _, err := Open(store, other.RecordMAC); !errors.Is(err, ErrMAC) || !strings.Contains(err.Error(), "another site secret") {
		t.Errorf("other secret: %v", err)
	}
	path := filepath.Join(store, DirName)
	must(t, os.Chmod(path, 0o755))
	if _, err := Open(store, keys.RecordMAC); err == nil || !strings.Contains(err.Error(), "chmod 0700 "+path) {
		t.Errorf("open to others: %v", err)
	}
	must(t, os.Chmod(path, 0o700))
	must(t, os.Rename(path, path+"2"))
	must(t, os.Symlink(path+"2", path))
	if _, err := Open(store, keys.RecordMAC); err == nil {
		t.Error("a symbolic link was followed")
	}
}

func TestCreateReadUpdate(t *testing.T) {
	t.Parallel()
	keys := siteKeys(t)
	d, rec := newDir(t, keys), goodUser(t, keys)
	if _, err := d.Read(alice); !errors.Is(err, ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	create(t, d, rec)
	got, err := d.Read(alice)
	must(t, err)
	if !reflect.DeepEqual(got.User, rec) || got.Warning != nil {
		t.Errorf("%+v", got)
	}
	h, err := d.Lock(alice, true)
	must(t, err)
	if err := h.Create(rec); !errors.Is(err, ErrExists) {
		t.Errorf("twice: %v", err)
	}
	boom := errors.New("boom")
	if err := h.Update(func(*User) error { return boom }); err != boom {
		t.Errorf("refused change: %v", err)
	}
	if err := h.Update(func(rec *User) error { rec.ContentKeys = nil; return nil }); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a record that nobody can read was written: %v", err)
	}
	must(t, h.Update(setLabel("new")))
	h.Release()

	stamp, err := d.Stamp(alice)
	must(t, err)
	if stamp == got.Stamp {
		t.Error("the stamp does not show a change")
	}
	got, err = d.Read(alice)
	must(t, err)
	if got.Serial != 2 || got.Slots[0].Label != "new" || got.Stamp != stamp {
		t.Errorf("%+v", got)
	}
	prev, err := ParseUser(readFile(t, d.userPath(alice, previousName)), keys.RecordMAC)
	if err != nil || prev.Serial != 1 {
		t.Errorf("previous: %+v, %v", prev, err)
	}
	for _, path := range []string{d.userPath(alice, recordName), d.userPath(alice, previousName)} {
		if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
			t.Errorf("%v, %v", st, err)
		}
	}
	if st, err := os.Stat(d.userPath(alice)); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", st, err)
	}
	if _, err := d.Lock("bob", false); !errors.Is(err, ErrNotFound) {
		t.Errorf("lock of nobody: %v", err)
	}
}

func readFile(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	must(tb, err)
	return b
}

// TestPrevious walks through what may have happened to both versions (K13).
func TestPrevious(t *testing.T) {
	t.Parallel()
	keys := siteKeys(t)
	damage := func(b []byte) []byte { return flipped(string(b), len(b)-100) }
	future := func(b []byte) []byte { return bytes.Replace(b, []byte("version = 1"), []byte("version = 2"), 1) }
	missing := func([]byte) []byte { return nil }
	whole := bytes.Clone
	tests := []struct {
		name           string
		current, prev  func([]byte) []byte
		want           string // kind of error, or the serial that is read
		warns, updates bool
	}{
		{"both whole", whole, whole, "2", false, true},
		{"previous missing", whole, missing, "2", false, true},
		{"previous damaged", whole, damage, "2", false, true},
		{"current damaged", damage, whole, "1", true, true},
		{"current missing", missing, whole, "1", true, true},
		{"current unsupported", future, whole, "unsupported", false, false},
		{"current damaged, previous unsupported", damage, future, "mac", false, false},
		{"both damaged", damage, damage, "mac", false, false},
		{"current damaged, previous missing", damage, missing, "mac", false, false},
		{"current missing, previous damaged", missing, damage, "mac", false, false},
		{"both missing", missing, missing, ErrNotFound.Error(), false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d, rec := newDir(t, keys), goodUser(t, keys)
			create(t, d, rec)
			must(t, changeLabel(d, alice, "second"))
			for name, f := range map[string]func([]byte) []byte{recordName: tt.current, previousName: tt.prev} {
				path := d.userPath(alice, name)
				b := f(readFile(t, path))
				must(t, os.Remove(path))
				if b != nil {
					must(t, os.WriteFile(path, b, 0o600))
				}
			}
			got, err := d.Read(alice)
			kind := kindOf(err)
			if err == nil {
				kind = string('0' + rune(got.Serial))
			}
			if kind != tt.want || (got.Warning != nil) != tt.warns {
				t.Errorf("got %s, %v, warning %v", kind, err, got.Warning)
			}
			if tt.warns && (!strings.Contains(got.Warning.Error(), previousName) || !strings.Contains(got.Warning.Error(), "mailcryptfs passwd")) {
				t.Errorf("warning %v", got.Warning)
			}
			enrolled, err := d.Enrolled(alice)
			if err != nil || enrolled != (tt.want != ErrNotFound.Error()) {
				t.Errorf("enrolled: %v, %v", enrolled, err)
			}
			before := snapshot(t, d, alice)
			err = changeLabel(d, alice, "third")
			if (err == nil) != tt.updates {
				t.Errorf("update: %v", err)
			}
			if err != nil {
				if !reflect.DeepEqual(before, snapshot(t, d, alice)) {
					t.Error("an update that failed changed something")
				}
				return
			}
			if got, err := d.Read(alice); err != nil || got.Warning != nil || got.Slots[0].Label != "third" {
				t.Errorf("after an update: %+v, %v", got, err)
			}
			// A damaged record did not take the place of the whole previous one.
			if tt.warns && !bytes.Equal(before[previousName], snapshot(t, d, alice)[previousName]) {
				t.Error("the whole previous record was overwritten")
			}
		})
	}
}

// snapshot returns the files of a user's directory.
func snapshot(tb testing.TB, d *Dir, u account.User) map[string][]byte {
	tb.Helper()
	entries, err := os.ReadDir(d.userPath(u))
	must(tb, err)
	files := make(map[string][]byte)
	for _, e := range entries {
		if e.Name() != lockName && !e.IsDir() {
			files[e.Name()] = readFile(tb, d.userPath(u, e.Name()))
		}
	}
	return files
}

// TestHostileFiles puts other things where records belong.
func TestHostileFiles(t *testing.T) {
	t.Parallel()
	keys := siteKeys(t)
	rec := goodUser(t, keys)
	for name, make := range map[string]func(t *testing.T, path string){
		"directory":     func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o700)) },
		"FIFO":          func(t *testing.T, path string) { must(t, unix.Mkfifo(path, 0o600)) },
		"symbolic link": func(t *testing.T, path string) { must(t, os.Symlink(previousName, path)) },
		"large": func(t *testing.T, path string) {
			must(t, os.WriteFile(path, nil, 0o600))
			must(t, os.Truncate(path, maxUserSize+1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDir(t, keys)
			create(t, d, goodUser(t, keys))
			must(t, changeLabel(d, alice, "second"))
			path := d.userPath(alice, recordName)
			must(t, os.Remove(path))
			make(t, path)
			got, err := d.Read(alice)
			if err != nil || got.Warning == nil || !errors.Is(got.Warning, ErrCorrupt) || got.Serial != rec.Serial {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	d := newDir(t, keys)
	create(t, d, rec)
	must(t, os.Rename(d.userPath(alice), d.userPath("bob")))
	must(t, os.Symlink("bob", d.userPath(alice)))
	if _, err := d.Read(alice); err == nil {
		t.Error("a symbolic link to another user's directory was followed")
	}
	if _, err := d.Read("bob"); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "alice") {
		t.Errorf("the record of another user: %v", err)
	}
}

func TestDeliveries(t *testing.T) {
	t.Parallel()
	keys := siteKeys(t)
	d := newDir(t, keys)
	create(t, d, goodUser(t, keys))
	v := loadVector(t, filepath.Join(vectorDir, "delivery-good"))
	rec, err := ParseDelivery(v.record, keys.RecordMAC)
	must(t, err)
	if ids, err := d.Deliveries(alice); err != nil || len(ids) != 0 {
		t.Errorf("%v, %v", ids, err)
	}
	if _, err := d.Delivery(alice, rec.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	h, err := d.Lock(alice, false)
	must(t, err)
	defer h.Release()
	must(t, h.DestroyDelivery(rec.ID))
	must(t, h.AddDelivery(rec))
	if got, err := d.Delivery(alice, rec.ID); err != nil || !reflect.DeepEqual(got, rec) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := d.Delivery("bob", rec.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("another user: %v", err)
	}
	must(t, os.WriteFile(d.userPath(alice, deliveryName, "README"), nil, 0o600))
	if ids, err := d.Deliveries(alice); err != nil || !slices.Equal(ids, []secret.ID{rec.ID}) {
		t.Errorf("%v, %v", ids, err)
	}
	other := *rec
	other.User = "bob"
	if err := h.AddDelivery(&other); err == nil {
		t.Error("another user's key was taken")
	}
	must(t, h.DestroyDelivery(rec.ID))
	if _, err := d.Delivery(alice, rec.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("after: %v", err)
	}
}

func TestUsers(t *testing.T) {
	t.Parallel()
	keys := siteKeys(t)
	d := newDir(t, keys)
	create(t, d, goodUser(t, keys))
	long := account.User(strings.Repeat("ü", 300))
	rec, err := ParseUser(loadVector(t, filepath.Join(vectorDir, "user-long-name")).record, keys.RecordMAC)
	must(t, err)
	create(t, d, rec)
	h, err := d.Lock("half", true) // a directory without a record: not enrolled
	must(t, err)
	h.Release()
	must(t, os.Mkdir(filepath.Join(d.path, usersName, "b%6fb"), 0o700))
	must(t, os.Mkdir(filepath.Join(d.path, usersName, "%h"+strings.Repeat("0", 64)), 0o700))
	users, problems, err := d.Users()
	slices.Sort(users)
	if err != nil || !slices.Equal(users, []account.User{alice, long}) || len(problems) != 2 {
		t.Errorf("%q, %v, %v", users, problems, err)
	}
	if u, err := d.Resolve(long.Escape()); err != nil || u != long {
		t.Errorf("%q, %v", u, err)
	}
	must(t, os.Rename(d.userPath(long), filepath.Join(d.path, usersName, "%h"+strings.Repeat("1", 64))))
	if u, err := d.Resolve("%h" + strings.Repeat("1", 64)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("under another hash: %q, %v", u, err)
	}
}

// TestUpdatesAreSerial changes one record from many goroutines, as many processes would.
func TestUpdatesAreSerial(t *testing.T) {
	t.Parallel()
	keys := siteKeys(t)
	store := t.TempDir()
	first, err := Create(store, keys.RecordMAC, begin)
	must(t, err)
	defer first.Close()
	create(t, first, goodUser(t, keys))
	var wg sync.WaitGroup
	const writers, changes = 4, 10
	for range writers {
		wg.Go(func() {
			d, err := Open(store, keys.RecordMAC)
			if err != nil {
				t.Error(err)
				return
			}
			defer d.Close()
			for range changes {
				if err := changeLabel(d, alice, "x"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 100 {
		if got, err := first.Read(alice); err != nil || got.Warning != nil {
			t.Errorf("%v, %v", got.Warning, err)
		}
	}
	wg.Wait()
	if got, err := first.Read(alice); err != nil || got.Serial != 1+writers*changes {
		t.Errorf("serial %d, %v", got.Serial, err)
	}
}

func TestUnknownSlotIsKept(t *testing.T) {
	t.Parallel()
	keys := siteKeys(t)
	d := newDir(t, keys)
	b := loadVector(t, filepath.Join(vectorDir, "user-unknown-slot")).record
	rec, err := ParseUser(b, keys.RecordMAC)
	must(t, err)
	create(t, d, rec)
	must(t, changeLabel(d, alice, "changed"))
	got, err := d.Read(alice)
	must(t, err)
	if len(got.Slots) != 2 || got.Slots[0].Label != "changed" || got.Slots[1].Known() {
		t.Fatalf("%+v", got.Slots)
	}
	if !reflect.DeepEqual(got.Slots[1], rec.Slots[1]) {
		t.Errorf("%+v became %+v", rec.Slots[1], got.Slots[1])
	}
	inner, _ := got.Slots[1].unknown["inner"].(map[string]any)
	if inner["x"] != true || got.Slots[1].unknown["wrapped"] != int64(7) {
		t.Errorf("%+v", got.Slots[1].unknown)
	}
}
