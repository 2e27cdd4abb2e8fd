package slot

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseEntryRefuses(t *testing.T) {
	t.Parallel()
	const good = "$argon2id$v=19$m=8192,t=2,p=2$c2FsdHNhbHRzYWx0c2FsdA$M4F5rJUNM7aZUekzV0IaoyR/GwRGEcHXXuhAyoDkwZs\n"
	e, err := ParseEntry([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	e.Hash.Wipe()
	replace := func(old, new string) string {
		s := strings.Replace(good, old, new, 1)
		if s == good {
			t.Fatalf("%q is not in the entry", old)
		}
		return s
	}
	tests := []struct {
		name, in string
		want     error
	}{
		{"empty", "", ErrEntry},
		{"no newline", good[:len(good)-1], ErrEntry},
		{"two newlines", good + "\n", ErrEntry},
		{"carriage return", replace("\n", "\r\n"), ErrEntry},
		{"newline within", replace("M4F5", "M4\n5"), ErrEntry},
		{"argon2i", replace("argon2id", "argon2i"), ErrEntry},
		{"old version", replace("v=19", "v=16"), ErrEntry},
		{"no version", replace("v=19$", ""), ErrEntry},
		{"leading zero", replace("t=2", "t=02"), ErrEntry},
		{"sign", replace("t=2", "t=+2"), ErrEntry},
		{"order", replace("t=2,p=2", "p=2,t=2"), ErrEntry},
		{"more parameters", replace("p=2", "p=2,q=1"), ErrEntry},
		{"fewer parameters", replace(",p=2", ""), ErrEntry},
		{"huge memory", replace("m=8192", "m=1048577"), ErrParams},
		{"overflow", replace("m=8192", "m=4294975488"), ErrEntry},
		{"little memory", replace("m=8192", "m=8191"), ErrParams},
		{"much time", replace("t=2", "t=17"), ErrParams},
		{"no threads", replace("p=2", "p=0"), ErrParams},
		{"many threads", replace("p=2", "p=258"), ErrEntry},
		{"padding", replace("c2FsdA$", "c2FsdA==$"), ErrEntry},
		{"trailing bits of the salt", replace("c2FsdA$", "c2FsdB$"), ErrEntry},
		{"trailing bits of the hash", replace("wZs\n", "wZt\n"), ErrEntry},
		{"base64url", replace("yR/G", "yR_G"), ErrEntry},
		{"short salt", replace("c2FsdA$", "c2Fs$"), ErrEntry},
		{"short hash", replace("wZs\n", "\n"), ErrEntry},
		{"no hash", good[:strings.LastIndex(good, "$")] + "\n", ErrEntry},
		{"another field", replace("wZs\n", "wZs$x\n"), ErrEntry},
	}
	for _, tt := range tests {
		if _, err := ParseEntry([]byte(tt.in)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func FuzzParseEntry(f *testing.F) {
	dir := filepath.Join("testdata", "fuzz", f.Name())
	if entries, err := os.ReadDir(dir); err != nil || len(entries) == 0 {
		f.Fatalf("no seeds in %s: %v", dir, err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEntry(b)
		if err != nil {
			return
		}
		defer e.Hash.Wipe()
		again, err := e.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q became %q, %v", b, again, err)
		}
	})
}
