package export

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
)

// TestSpool looks for plaintext in the file of a spool, and for its name.
func TestSpool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := newSpool(dir)
	must(t, err)
	defer s.Close()
	want := strings.Repeat("Subject: secret plans\n", 20_000)
	_, err = io.WriteString(s, want)
	must(t, err)
	names, err := os.ReadDir(dir)
	must(t, err)
	stored := make([]byte, 100_000)
	if _, err := s.file.ReadAt(stored, 0); err != nil || bytes.Contains(stored, []byte("secret plans")) || len(names) > 0 {
		t.Errorf("%v, names %v, or plaintext in the file", err, names)
	}
	r, err := s.content()
	must(t, err)
	if got, err := io.ReadAll(r); err != nil || string(got) != want || s.size != int64(len(want)) {
		t.Errorf("%d bytes of %d: %v", len(got), len(want), err)
	}
	if _, err := newSpool(dir + "/missing"); err == nil || !strings.Contains(err.Error(), "$TMPDIR") {
		t.Errorf("a spool without a directory: %v", err)
	}
}
