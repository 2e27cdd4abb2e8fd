package records

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

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
