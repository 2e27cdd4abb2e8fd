package supervise

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// vmail is the uid and gid that owns all mail in these tests: Debian's user mail.
const vmail = 8

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, harness.Procs{"probe": childProbe, "connect": childConnect}))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// deliver makes a message of a user in the view.
func deliver(t testing.TB, s *harness.Site, user, name string) (path string, content []byte) {
	t.Helper()
	box := filepath.Join(s.View, user)
	for _, d := range []string{box, box + "/cur", box + "/new", box + "/tmp"} {
		must(t, os.MkdirAll(d, 0o700))
		must(t, os.Chown(d, vmail, vmail))
	}
	path, content = filepath.Join(box, "cur", name), bytes.Repeat([]byte("text of "+name+"\n"), 400)
	must(t, os.WriteFile(path, content, 0o600))
	must(t, os.Chown(path, vmail, vmail))
	return path, content
}

// manager is systemd's side of a notification socket (sd_notify(3)).
type manager struct {
	conn    *net.UnixConn
	path    string
	forward string // where the harness waits to hear that the daemon is ready

	mu    sync.Mutex
	pings []time.Time // of the watchdog
	said  []string
}

// manage makes the socket. The daemon of the site that is made with its options reports to it, and feeds its watchdog.
func manage(t testing.TB, watchdog time.Duration) (*manager, []string) {
	t.Helper()
	m := &manager{path: filepath.Join(harness.Dir(t), "notify")}
	var err error
	m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { _ = m.conn.Close() })
	return m, []string{"env", "NOTIFY_SOCKET=" + m.path, "WATCHDOG_USEC=" + micros(watchdog)}
}

func micros(d time.Duration) string { return strconv.FormatInt(d.Microseconds(), 10) }

// listen takes notifications until the socket is closed.
func (m *manager) listen(s *harness.Site) {
	m.forward = s.Config + ".n"
	buf := make([]byte, 4096)
	for {
		n, err := m.conn.Read(buf)
		if err != nil {
			return
		}
		text := string(buf[:n])
		m.mu.Lock()
		m.said = append(m.said, text)
		if strings.Contains(text, "WATCHDOG=1") {
			m.pings = append(m.pings, time.Now())
		}
		m.mu.Unlock()
		if strings.Contains(text, "READY=1") {
			if conn, err := net.Dial("unixgram", m.forward); err == nil {
				_, _ = conn.Write(buf[:n])
				_ = conn.Close()
			}
		}
	}
}

func (m *manager) heard() (pings int, last time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.pings); n > 0 {
		return n, m.pings[n-1]
	}
	return 0, time.Time{}
}

// monotonic is a time in nanoseconds that all processes share, and that nobody sets.
func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // of this clock it cannot fail
	return ts.Nano()
}

// childProbe PATH opens and reads a file every few milliseconds. "BEGAN ENDED ANSWER" is what it says of each read that
// fails, of the first one that does not fail any more, and of the next one when it is told to look. It ends when it hears
// anything else.
func childProbe(c *harness.Child) error {
	was := "nothing"
	done, look := make(chan struct{}), make(chan struct{})
	go func() {
		for line, err := c.Hear(); err == nil && line == "look"; line, err = c.Hear() {
			look <- struct{}{}
		}
		close(done)
	}()
	for {
		began, is := monotonic(), "ok"
		if _, err := os.ReadFile(c.Args[0]); err != nil {
			var errno unix.Errno
			if !errors.As(err, &errno) {
				return err
			}
			is = unix.ErrnoName(errno)
		}
		if is != "ok" || is != was {
			if err := c.Say("%d %d %s", began, monotonic(), is); err != nil {
				return err
			}
			was = is
		}
		select {
		case <-look:
			was = "nothing"
		case <-done:
			return c.Say("done")
		case <-time.After(3 * time.Millisecond):
		}
	}
}

// childConnect SOCKET sends a byte to a socket, if it can.
func childConnect(c *harness.Child) error {
	conn, err := net.Dial("unix", c.Args[0])
	if err != nil {
		return c.Say("%v", err)
	}
	_, err = conn.Write([]byte("x"))
	return c.Say("connected %v", errors.Join(err, conn.Close()))
}
