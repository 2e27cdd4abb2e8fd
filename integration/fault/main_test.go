package fault

import (
	"os"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"github.com/mailcryptfs/mailcryptfs/integration/trap"
)

func TestMain(m *testing.M) {
	harness.WithoutRace()
	os.Exit(harness.Main(m, harness.Procs{"trap": trap.Child}))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
