package records

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
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

func readFile(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	must(tb, err)
	return b
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

const (
	alice    account.User = "alice@example.org"
	password string       = "correct horse battery staple"
)

// siteKeys are those of the site secret 000102…1f.
func siteKeys(tb testing.TB) *site.Keys {
	tb.Helper()
	s := make([]byte, 32)
	for i := range s {
		s[i] = byte(i)
	}
	keys, err := site.Derive(s)
	must(tb, err)
	tb.Cleanup(keys.Wipe)
	return keys
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func fill(b byte, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = b + byte(i)
	}
	return out
}

func flipped(s string, at int) []byte {
	b := []byte(s)
	b[at] ^= 1
	return b
}
