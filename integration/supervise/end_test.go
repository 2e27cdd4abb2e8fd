package supervise

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// keepEnding connects to a daemon and says nothing, so that the daemon takes a few seconds to end.
func keepEnding(t *testing.T, s *harness.Site) {
	t.Helper()
	silent, err := net.Dial("unix", s.Control)
	must(t, err)
	t.Cleanup(func() { _ = silent.Close() })
}

// TestEndDespiteAClient: what clients do, or do not do, makes no failure of a daemon's end.
func TestEndDespiteAClient(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	keepEnding(t, s)
	s.Stop(t)
}

// TestStartDuringTheEnd starts a daemon when another one has no control socket any more, but still its view.
func TestStartDuringTheEnd(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	keepEnding(t, s)
	must(t, syscall.Kill(s.PID(), syscall.SIGTERM))
	harness.Eventually(t, time.Minute, "the control socket is gone", func() bool {
		_, err := os.Lstat(s.Control)
		return errors.Is(err, os.ErrNotExist)
	})
	next := *s
	next.Serve(t)
	harness.Eventually(t, time.Minute, "the first one has ended", func() bool { return !s.Running() })
	next.Enroll(t, "alice")
	next.Stop(t)
}
