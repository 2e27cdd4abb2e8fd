package content

import (
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// exampleFile is the stored file of the worked example of FORMAT.md section 3.
func exampleFile() []byte {
	f := newForger("example")
	f.salt, f.nextNonce = counting(0x60, 32), counting(0x80, 12)
	return f.file(writeOnce, []byte("hello\n"))
}

func example(b []byte) string {
	var out strings.Builder
	row := func(at, n int, what string) {
		fmt.Fprintf(&out, "%2d  %-64s  %s\n", at, hex.EncodeToString(b[at:at+n]), what)
	}
	row(0, 4, "magic")
	row(4, 1, "version")
	row(5, 1, "layout: write-once")
	row(6, 2, "zero")
	row(8, 16, "content-key id")
	row(24, 32, "file salt")
	row(56, 12, "nonce")
	row(68, 2, "final, L = 6")
	row(70, 6, "ciphertext")
	row(76, 16, "tag")
	return out.String()
}

// TestExample checks the example in FORMAT.md: its bytes are what a reader opens and what a writer writes.
func TestExample(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	b := exampleFile()
	if want := "```\n" + example(b) + "```\n"; !strings.Contains(string(page), want) {
		t.Errorf("FORMAT.md does not have this example:\n%s", want)
	}
	if len(b) != 92 || int64(len(b)) != format.StoredSize(6, format.WriteOnce) {
		t.Errorf("%d stored bytes", len(b))
	}
	id := secret.ID(vectorKeyID)
	low := &memLower{b: slices.Clone(b)}
	f, err := Open(low, low.size(), &testKeys{known: map[secret.ID]*secret.Key{id: newKey(t, vectorKey)}})
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, f); string(got) != "hello\n" {
		t.Errorf("the example reads as %q", got)
	}
}
