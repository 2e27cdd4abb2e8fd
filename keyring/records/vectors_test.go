package records

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/code"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// loadedVector is a vector as it lies in its file.
type loadedVector struct {
	header map[string][]string
	record []byte
}

func (v loadedVector) get(key string) string {
	if len(v.header[key]) == 0 {
		return ""
	}
	return v.header[key][0]
}

func loadVector(tb testing.TB, path string) loadedVector {
	tb.Helper()
	b, err := os.ReadFile(path)
	must(tb, err)
	head, record, ok := bytes.Cut(b, []byte("\n\n"))
	if !ok {
		tb.Fatalf("%s has no header", path)
	}
	v := loadedVector{header: make(map[string][]string), record: record}
	for line := range strings.Lines(string(head)) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if !ok {
			tb.Fatalf("%s: %q", path, line)
		}
		v.header[key] = append(v.header[key], value)
	}
	return v
}

// kindOf names an error as vectors do.
func kindOf(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrUnsupported):
		return "unsupported"
	case errors.Is(err, ErrMAC):
		return "mac"
	case errors.Is(err, ErrCorrupt):
		return "corrupt"
	}
	return err.Error()
}

// TestVectors puts each vector where it says that it lies, and reads it from there.
func TestVectors(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(vectorDir)
	must(t, err)
	if len(entries) < 30 {
		t.Fatalf("only %d vectors in %s", len(entries), vectorDir)
	}
	keys := siteKeys(t)
	for _, e := range entries {
		t.Run(e.Name(), func(t *testing.T) {
			t.Parallel()
			v := loadVector(t, filepath.Join(vectorDir, e.Name()))
			got, err := readVector(t, v, keys)
			if kindOf(err) != v.get("expect") {
				t.Fatalf("want %s, got %s: %v", v.get("expect"), kindOf(err), err)
			}
			if err != nil {
				return
			}
			again, err := got.Encode(keys.RecordMAC)
			must(t, err)
			// Only what the generator wrote by hand is written otherwise by us.
			if !bytes.Equal(again, v.record) && e.Name() != "user-unknown-slot" {
				t.Errorf("it is written again as\n%s", again)
			}
		})
	}
}

type encoder interface {
	Encode(mac *secret.Key) ([]byte, error)
}

func readVector(t *testing.T, v loadedVector, keys *site.Keys) (encoder, error) {
	t.Helper()
	d := newDir(t, keys)
	put := func(elem ...string) {
		t.Helper()
		path := filepath.Join(append([]string{d.path}, elem...)...)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, v.record, 0o600))
	}
	name := v.get("directory")
	switch v.get("kind") {
	case "user":
		put(usersName, name, recordName)
		u, err := d.Resolve(name)
		if errors.Is(err, account.ErrEscaped) || err != nil {
			return nil, err
		}
		loaded, err := d.Read(u)
		if err == nil && len(v.header["password"]) > 0 {
			checkSecrets(t, v, keys, loaded.User)
		}
		return loaded.User, err
	case "delivery":
		u, err := account.Unescape(name)
		must(t, err)
		id, err := secret.ParseID(strings.TrimSuffix(v.get("file"), ".toml"))
		must(t, err)
		put(usersName, name, deliveryName, v.get("file"))
		return d.Delivery(u, id)
	case "forgotten":
		put(usersName, name, forgottenName)
		return d.Forgotten(alice)
	case "used":
		u, err := ParseUsed(v.record, keys.RecordMAC)
		if err == nil && u.User != alice {
			err = corrupt("it is the record of user %q", u.User)
		}
		return u, err
	case "store":
		put(storeName)
		again, err := Open(filepath.Dir(d.path), keys.RecordMAC)
		if err != nil {
			return nil, err
		}
		defer again.Close()
		s := again.Store()
		return &s, nil
	}
	t.Fatalf("kind %q", v.get("kind"))
	return nil, nil
}

// checkSecrets opens everything in a record from the password on.
func checkSecrets(t *testing.T, v loadedVector, keys *site.Keys, rec *User) {
	t.Helper()
	sl := &rec.Slots[0]
	seed, err := secret.NewKey(seedOf(t, keys, rec, sl))
	must(t, err)
	defer seed.Wipe()
	identity, err := slot.Unwrap(sl.Wrapped, seed, sl.Public, slot.Place{User: rec.User, Kind: sl.Kind, Slot: sl.ID}, rec.Public[:])
	must(t, err)
	defer identity.Wipe()
	for _, text := range v.header["recovery-code"] {
		checkCode(t, rec, text)
	}
	for _, text := range v.header["recovery-key"] {
		checkRecoveryKey(t, rec, text)
	}
	for i := range rec.Identities {
		p := &rec.Identities[i]
		old, err := identity.OpenPrevious(rec.User, p.Sealed, p.Public[:])
		must(t, err)
		old.Wipe()
	}
	if len(v.header["content-key"]) != len(rec.ContentKeys) {
		t.Errorf("the header has %d content keys", len(v.header["content-key"]))
	}
	for _, line := range v.header["content-key"] {
		digits, want, _ := strings.Cut(line, " ")
		id, err := secret.ParseID(digits)
		must(t, err)
		key, err := identity.Open(rec.User, id, rec.ContentKey(id).Sealed)
		must(t, err)
		must(t, key.Use(func(b []byte) error {
			if fmt.Sprintf("%x", b) != want {
				t.Errorf("content key %s is %x", id, b)
			}
			return nil
		}))
		key.Wipe()
	}
}

// slotOf returns the one slot of a kind.
func slotOf(t *testing.T, rec *User, kind slot.Kind) (*Slot, slot.Place) {
	t.Helper()
	i := slices.IndexFunc(rec.Slots, func(s Slot) bool { return s.Kind == kind })
	if i < 0 {
		t.Fatalf("no slot of kind %s", kind)
	}
	return &rec.Slots[i], slot.Place{User: rec.User, Kind: kind, Slot: rec.Slots[i].ID}
}

func checkCode(t *testing.T, rec *User, text string) {
	t.Helper()
	c, err := code.Parse([]byte(text))
	must(t, err)
	defer c.Wipe()
	sl, at := slotOf(t, rec, slot.KindCode)
	seed, err := c.Seed(at)
	must(t, err)
	defer seed.Wipe()
	identity, err := slot.Unwrap(sl.Wrapped, seed, sl.Public, at, rec.Public[:])
	must(t, err)
	identity.Wipe()
}

func checkRecoveryKey(t *testing.T, rec *User, text string) {
	t.Helper()
	ids, err := recovery.ReadIdentities(strings.NewReader(text))
	must(t, err)
	sl, at := slotOf(t, rec, slot.KindRecovery)
	identity, err := recovery.Unwrap(sl.Wrapped, ids, at, rec.Public[:])
	must(t, err)
	identity.Wipe()
}
