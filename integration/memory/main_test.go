package memory

import (
	"os"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

func TestMain(m *testing.M) {
	harness.WithoutRace()
	os.Exit(harness.Main(m, nil))
}

func addLines(t testing.TB, s *harness.Site, lines string) {
	t.Helper()
	f, err := os.OpenFile(s.Config, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(lines)
	must(t, err)
	must(t, f.Close())
}
