package memory

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, nil)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// shipped has the following sites of the test run a binary that is built as for users: it erases what it leaves on the heap,
// and has no race detector, whose shadow memory would be searched too.
func shipped(t *testing.T) {
	t.Helper()
	binary := filepath.Join(harness.Dir(t), "mailcryptfs")
	cmd := exec.Command("go", "build", "-o", binary, "github.com/mailcryptfs/mailcryptfs/cmd/mailcryptfs")
	cmd.Env = append(os.Environ(), "GOEXPERIMENT=runtimesecret")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	t.Setenv("MAILCRYPTFS_TEST_BINARY", binary)
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
