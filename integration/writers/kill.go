package writers

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// patience is how long a daemon may take to die.
const patience = 5 * time.Second

// Kill ends the daemon with SIGKILL. A FUSE server that is killed while it has the kernel drop pages, one of which the
// kernel waits for the server to fill, does not die before its connection is cut: that is done after some time, as
// the next daemon would do it.
func Kill(t testing.TB, s *harness.Site) {
	t.Helper()
	minor := connection(t, s.View)
	late := time.AfterFunc(patience, func() {
		t.Logf("the killed daemon does not die: its connection %d is cut", minor)
		if err := cut(harness.ImageDir(), minor); err != nil {
			t.Errorf("cannot cut the connection: %v", err)
		}
	})
	defer late.Stop()
	s.Kill(t)
}

// connection is the number of the FUSE connection of a mount point.
func connection(t testing.TB, dir string) (minor int) {
	t.Helper()
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if w := strings.Fields(sc.Text()); len(w) > 4 && w[4] == dir {
			if _, err := fmt.Sscanf(w[2], "0:%d", &minor); err != nil {
				t.Fatalf("mountinfo: %q: %v", sc.Text(), err)
			}
		}
	}
	return minor
}

// cut ends a connection, by means of a control filesystem that it mounts below dir.
func cut(dir string, minor int) error {
	at, err := os.MkdirTemp(dir, "")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(at) }()
	if err := unix.Mount("fusectl", at, "fusectl", 0, ""); err != nil {
		return err
	}
	defer func() { _ = unix.Unmount(at, unix.MNT_DETACH) }()
	return os.WriteFile(fmt.Sprintf("%s/%d/abort", at, minor), []byte("1"), 0)
}
