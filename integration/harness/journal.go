package harness

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
)

// Journal collects what programs write; it is safe for concurrent use.
type Journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write adds to the journal.
func (j *Journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

// String is what was written so far.
func (j *Journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// Listen makes a syslog socket that everybody may write to, and collects a line for each message until the test ends.
func (j *Journal) Listen(t testing.TB, path string) {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 64<<10)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(j, "%s\n", bytes.TrimRight(buf[:n], "\x00\n"))
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
}
