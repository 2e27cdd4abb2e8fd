package compat

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
)

// TestAgeProgram opens the escrow of a site secret with the age program of Debian, which knows classic keys, and reads a
// key that age-keygen made.
func TestAgeProgram(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"age", "age-keygen"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v: run install.sh", err)
		}
	}
	dir := t.TempDir()
	made := filepath.Join(dir, "made")
	if out, err := exec.CommandContext(t.Context(), "age-keygen", "-o", made).CombinedOutput(); err != nil {
		t.Fatalf("age-keygen: %v\n%s", err, out)
	}
	f, err := os.Open(made)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ids, err := recovery.ReadIdentities(f)
	if err != nil {
		t.Fatal(err)
	}
	theirs, ok := recovery.RecipientOf(ids[0])
	if !ok {
		t.Fatal("age-keygen made a key of another kind")
	}
	var private bytes.Buffer
	ours, err := recovery.Generate(&private, false)
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(dir, "own")
	if err := os.WriteFile(own, private.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := recovery.SealSite(bytes.Repeat([]byte{7}, 32), []recovery.Recipient{ours, theirs})
	if err != nil {
		t.Fatal(err)
	}
	escrow := filepath.Join(dir, "site.age")
	if err := os.WriteFile(escrow, file, 0o600); err != nil {
		t.Fatal(err)
	}
	want := "mailcryptfs-site-secret-1:" + strings.Repeat("07", 32) + "\n"
	for _, key := range []string{own, made} {
		out, err := exec.CommandContext(t.Context(), "age", "-d", "-i", key, escrow).Output()
		if err != nil || string(out) != want {
			t.Errorf("%s: %q, %v", key, out, err)
		}
	}
}
