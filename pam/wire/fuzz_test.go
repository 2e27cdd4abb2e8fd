package wire_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/pam/wire"
)

// addSeeds adds the golden frames and the broken ones. A fuzz target without seeds finds nothing and says nothing, so
// an empty seed folder fails.
func addSeeds(f *testing.F, golden, corpus string) {
	f.Helper()
	lines, err := os.ReadFile(filepath.Join("testdata", golden))
	if err != nil {
		f.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(lines)) {
		_, word, found := strings.Cut(strings.TrimSpace(line), " = ")
		if !found {
			continue
		}
		frame, err := hex.DecodeString(word)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
		n++
	}
	stored, err := os.ReadDir(filepath.Join("testdata", "fuzz", corpus))
	if err != nil || len(stored) == 0 || n == 0 {
		f.Fatalf("%d golden frames, %d stored seeds of %s (%v): there must be some", n, len(stored), corpus, err)
	}
}

func FuzzRequest(f *testing.F) {
	addSeeds(f, "requests.txt", "FuzzRequest")
	for _, c := range refused {
		frame, err := hex.DecodeString(strings.ReplaceAll(c.frame, " ", ""))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		r, err := wire.ParseRequest(frame)
		page := make([]byte, wire.MaxRequest)
		_, readErr := wire.ReadRequest(bytes.NewReader(frame), page)
		if err != nil {
			return
		}
		if readErr != nil {
			t.Fatalf("parsed, but not read: %v", readErr)
		}
		again, err := r.Append(nil)
		if err != nil || !bytes.Equal(again, frame) {
			t.Fatalf("%x was parsed as %v, which is written as %x (%v)", frame, r, again, err)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	addSeeds(f, "answers.txt", "FuzzAnswer")
	f.Fuzz(func(t *testing.T, frame []byte) {
		a, err := wire.ParseAnswer(frame)
		_, readErr := wire.ReadAnswer(bytes.NewReader(frame))
		if err != nil {
			return
		}
		if readErr != nil {
			t.Fatalf("parsed, but not read: %v", readErr)
		}
		again, err := a.Append(nil)
		if err != nil || !bytes.Equal(again, frame) {
			t.Fatalf("%x was parsed as %v, which is written as %x (%v)", frame, a, again, err)
		}
	})
}
