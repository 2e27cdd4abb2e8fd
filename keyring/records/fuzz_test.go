package records

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// The fuzz targets get a record without its MAC line, and put the right one before it: otherwise nothing would ever come
// past the MAC. Their seeds are the vectors and what lies in testdata/fuzz.

func FuzzUser(f *testing.F) {
	fuzz(f, "user", formatUser, maxUserSize, func(b []byte, mac *secret.Key) (encoder, error) { return ParseUser(b, mac) })
}

func FuzzDelivery(f *testing.F) {
	fuzz(f, "delivery", formatDelivery, maxDeliverySize, func(b []byte, mac *secret.Key) (encoder, error) { return ParseDelivery(b, mac) })
}

func FuzzStore(f *testing.F) {
	fuzz(f, "store", formatStore, maxStoreSize, func(b []byte, mac *secret.Key) (encoder, error) { return ParseStore(b, mac) })
}

func fuzz(f *testing.F, kind, format string, limit int, parse func([]byte, *secret.Key) (encoder, error)) {
	f.Helper()
	mac := siteKeys(f).RecordMAC
	addSeeds(f, kind, limit)
	f.Fuzz(func(t *testing.T, body []byte) {
		// As it came: the parser must cope with it.
		if _, err := parse(body, mac); err != nil {
			kindOf(err)
		}
		sealed, err := seal(body, format, limit, mac)
		if err != nil {
			return
		}
		rec, err := parse(sealed, mac)
		if err != nil {
			if k := kindOf(err); k != "corrupt" && k != "unsupported" && k != "mac" {
				t.Errorf("an error of no kind: %v", err)
			}
			return
		}
		// What was read is written in one way, which reads as the same again.
		first, err := rec.Encode(mac)
		if err != nil {
			// Unknown slots may be of a size that only fits as it was spelt.
			if len(sealed) > limit/2 {
				return
			}
			t.Fatalf("cannot be written: %v\n%s", err, body)
		}
		again, err := parse(first, mac)
		if err != nil {
			t.Fatalf("cannot be read again: %v\n%s\nbecame\n%s", err, body, first)
		}
		second, err := again.Encode(mac)
		if err != nil || !bytes.Equal(first, second) {
			t.Errorf("%v\n%s\nbecame\n%s", err, first, second)
		}
	})
}

// maxSeed keeps seeds out that a mutator would spend all its time on, in bytes.
const maxSeed = 32 << 10

// addSeeds adds the vectors of a kind, and fails if there are none or the seed folder is empty.
func addSeeds(f *testing.F, kind string, limit int) {
	f.Helper()
	dir := filepath.Join("testdata", "fuzz", f.Name())
	if entries, err := os.ReadDir(dir); err != nil || len(entries) == 0 {
		f.Fatalf("no seeds in %s: %v", dir, err)
	}
	entries, err := os.ReadDir(vectorDir)
	must(f, err)
	n := 0
	for _, e := range entries {
		if v := loadVector(f, filepath.Join(vectorDir, e.Name())); v.get("kind") == kind && len(v.record) <= min(limit, maxSeed) {
			_, body, _ := bytes.Cut(v.record, []byte("\n"))
			f.Add(body)
			n++
		}
	}
	if n == 0 {
		f.Fatalf("no vectors of kind %s", kind)
	}
}

// checkSeeds writes the seed of each target with -update: the body of its good vector.
func checkSeeds(t *testing.T) {
	t.Helper()
	for target, name := range map[string]string{"FuzzUser": "user-good", "FuzzDelivery": "delivery-good", "FuzzStore": "store-good"} {
		_, body, _ := strings.Cut(string(loadVector(t, filepath.Join(vectorDir, name)).record), "\n")
		seed := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", body)
		path := filepath.Join("testdata", "fuzz", target, "good")
		if *update {
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, []byte(seed), 0o644))
		}
		if got := readFile(t, path); string(got) != seed {
			t.Errorf("%s is not the good vector; run go generate", path)
		}
	}
}
