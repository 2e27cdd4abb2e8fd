package compat

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/code"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

const recordVectors = "../../keyring/records/testdata/vectors"

// TestRecordVectors has key records judged in the order of FORMAT.md K9. The reader does not check every limit of a value:
// it may take a record that ours calls damaged, and nothing else.
func TestRecordVectors(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob(recordVectors + "/*")
	if err != nil || len(paths) < 100 {
		t.Fatalf("%d vectors, %v", len(paths), err)
	}
	var jobs []job
	var want []string
	for _, p := range paths {
		fields, stored := readVector(t, p)
		jobs = append(jobs, job{Do: "record", Secret: fields["site-secret"], Kind: fields["kind"], Stored: stored})
		want = append(want, fields["expect"])
	}
	refused := 0
	for i, a := range ask(t, jobs) {
		got := map[string]string{"ok": "ok", "refused": "corrupt", "unsupported": "unsupported", "unknown key": "mac"}[a.Result]
		if got != want[i] && (got != "ok" || want[i] != "corrupt") {
			t.Errorf("%s: %s (%s), want %s", filepath.Base(paths[i]), got, a.Why, want[i])
		}
		if got == "corrupt" {
			refused++
		}
	}
	if refused < 20 {
		t.Errorf("only %d records were refused", refused)
	}
}

func TestCodes(t *testing.T) {
	t.Parallel()
	var jobs []job
	var codes []code.Code
	at := slot.Place{User: "alice@example.org", Kind: slot.KindCode, Slot: slot.ID{1, 2, 3}}
	for range 20 {
		c, err := code.Generate()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Wipe()
		text, err := c.Text()
		if err != nil {
			t.Fatal(err)
		}
		codes = append(codes, c)
		jobs = append(jobs, job{Do: "code", Stored: bytes.ToLower(text), Name: []byte(at.User), Side: at.Slot[:]})
	}
	jobs = append(jobs, job{Do: "code", Stored: []byte("M2GTD-58X4Q-MPKA0-FA59S-NANT3-SBDE7-NYRB1-3CNKP"), Name: []byte("a"), Side: at.Slot[:]})
	answers := ask(t, jobs)
	for i, c := range codes {
		seed, err := c.Seed(at)
		if err != nil {
			t.Fatal(err)
		}
		err = seed.Use(func(want []byte) error {
			if answers[i].Result != "ok" || !bytes.Equal(answers[i].Value, want) {
				t.Errorf("code %d: %s", i, answers[i].Result)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		seed.Wipe()
	}
	if a := answers[len(codes)]; a.Result != "refused" || a.Why != "group 8" {
		t.Errorf("a mistyped code: %+v", a)
	}
}
