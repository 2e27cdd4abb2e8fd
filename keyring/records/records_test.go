package records

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

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
