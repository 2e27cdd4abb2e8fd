package harness

import (
	"os"
	"path/filepath"
	"testing"
)

// Maildir makes a maildir or a folder of one (cur, new, tmp) that belongs to the user and the group owner, and returns its path,
// which is path joined.
func Maildir(t testing.TB, owner int, path ...string) string {
	t.Helper()
	box := filepath.Join(path...)
	for _, d := range []string{"", "cur", "new", "tmp"} {
		d = filepath.Join(box, d)
		err := os.MkdirAll(d, 0o700)
		if err == nil {
			err = os.Chown(d, owner, owner)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return box
}
