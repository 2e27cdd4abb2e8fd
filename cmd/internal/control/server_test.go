package control

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestBadRequestsDoNotReachTheService(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	path, _ := start(t, r)
	client := NewClient(path)
	for name, err := range map[string]error{
		"empty user":     client.Unlock(t.Context(), "", []byte("p")),
		"dots":           client.Unlock(t.Context(), "a/../b", []byte("p")),
		"empty password": client.Unlock(t.Context(), "alice", nil),
		"long password":  client.Enroll(t.Context(), "alice", make([]byte, MaxPassword+1)),
		"long user":      client.Enroll(t.Context(), strings.Repeat("x", 2000), []byte("p")),
	} {
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, body := range map[string]string{
		"no JSON":        "user=alice",
		"wrong type":     `{"user": 1}`,
		"not base64":     `{"user": "***"}`,
		"too much":       `{"user": "` + strings.Repeat("A", maxBody) + `"}`,
		"empty":          "",
		"trailing bytes": `{} {}`,
	} {
		a := post(t, client, pathLock, body)
		if !strings.Contains(a, string(CodeBadRequest)) {
			t.Errorf("%s: %s", name, a)
		}
	}
	if len(r.calls) > 0 {
		t.Errorf("the service was called: %q", r.calls)
	}
}

func post(t *testing.T, c *Client, path, body string) string {
	t.Helper()
	res, err := c.http.Post("http://x"+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestUnknownPathsAndMethods(t *testing.T) {
	t.Parallel()
	path, _ := start(t, &recorder{})
	c := NewClient(path)
	if _, err := c.call(t.Context(), "/v2/unlock", request{}); !errors.Is(err, errAnswer) {
		t.Errorf("unknown path: %v", err)
	}
	res, err := c.http.Get("http://x" + pathWho)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %s", res.Status)
	}
}

func TestASlowServiceOutlivesTheReadTimeout(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(&recorder{wait: 3 * time.Second}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	s.http.ReadTimeout = 2 * time.Second
	done := make(chan error, 1)
	go func() { done <- s.Serve(l.UnixListener) }()
	if err := NewClient(path).Unlock(t.Context(), "alice", []byte("p")); err != nil {
		t.Error(err)
	}
	if err := errors.Join(s.Shutdown(t.Context()), <-done); err != nil {
		t.Error(err)
	}
}

// TestReadBufferIsWiped looks into the buffers that net/http read the request into, after it was answered.
func TestReadBufferIsWiped(t *testing.T) {
	t.Parallel()
	a, b := unixPair(t)
	c := &wipingConn{UnixConn: a}
	if _, err := b.Write([]byte("the password")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, err := c.Read(buf)
	if err != nil || string(buf[:n]) != "the password" {
		t.Fatalf("read %q, %v", buf[:n], err)
	}
	c.wipe()
	if !bytes.Equal(buf, make([]byte, len(buf))) {
		t.Errorf("left in the buffer: %q", buf)
	}
}

func unixPair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	a, err = l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}
