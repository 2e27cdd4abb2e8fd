package memory

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

func TestMain(m *testing.M) {
	harness.WithoutRace()
	os.Exit(harness.Main(m, nil))
}

// maildir makes a mailbox in the view.
func maildir(t testing.TB, s *harness.Site, user string) string {
	t.Helper()
	box := filepath.Join(s.View, user)
	for _, d := range []string{box, box + "/cur", box + "/new", box + "/tmp"} {
		must(t, os.MkdirAll(d, 0o700))
	}
	return box
}

func addLines(t testing.TB, s *harness.Site, lines string) {
	t.Helper()
	f, err := os.OpenFile(s.Config, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(lines)
	must(t, err)
	must(t, f.Close())
}
