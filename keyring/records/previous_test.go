package records

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"
)

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
