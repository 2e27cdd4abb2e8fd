package unlock

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/pam/wire"
)

func TestNamesThatAreNotAllowed(t *testing.T) {
	r := new(recorder)
	socket, _, _ := start(t, r, Options{})
	for _, user := range []string{"../alice", "a//b", "/a", ".", "a\nb"} {
		if a := ask(t, socket, login(user, "pw")); a.Status != wire.Malformed {
			t.Errorf("%q: %v", user, a)
		}
	}
	if calls := r.seen(); len(calls) > 0 {
		t.Errorf("they reached the unlocker: %q", calls)
	}
}

// rawAnswer sends bytes as they are and returns the answer; the connection stays open for writing until then.
func rawAnswer(t *testing.T, socket, frame string) (wire.Answer, error) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Error(err)
		return wire.Answer{}, err
	}
	defer func() { _ = conn.Close() }()
	_, sent := io.WriteString(conn, frame)
	a, err := wire.ReadAnswer(conn)
	if err != nil {
		return a, errors.Join(sent, err)
	}
	return a, nil // it may have come before everything was sent (P4)
}

func TestFramesThatAreNotAllowed(t *testing.T) {
	type frame struct {
		bytes string
		want  wire.Status
	}
	for _, c := range []struct {
		patience time.Duration
		frames   map[string]frame
	}{
		{0, map[string]frame{
			"another protocol": {"GET / HTTP/1.1\r\n\r\n", wire.Malformed},
			"another version":  {"mcpr\x02\x01\x00\x00", wire.Unsupported},
			"too long":         {"mcpr\x01\x01\xff\xff", wire.Malformed},
		}},
		{2 * time.Second, map[string]frame{
			"nothing":       {"", wire.Malformed},
			"half a header": {"mcp", wire.Malformed},
			"half a body":   {"mcpr\x01\x03\x00\x06\x00\x01a", wire.Malformed},
		}},
	} {
		r := new(recorder)
		socket, j, stop := start(t, r, Options{Patience: c.patience})
		var all sync.WaitGroup
		for name, f := range c.frames {
			all.Go(func() {
				if a, err := rawAnswer(t, socket, f.bytes); err != nil || a.Status != f.want {
					t.Errorf("%s: %v, %v", name, a, err)
				}
			})
		}
		all.Wait()
		stop()
		if calls, n := r.seen(), strings.Count(j.String(), "level=ERROR"); len(calls) > 0 || n != len(c.frames) {
			t.Errorf("calls %q, %d errors in the log: %s", calls, n, j)
		}
	}
}
