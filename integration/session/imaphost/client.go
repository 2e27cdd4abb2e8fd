package imaphost

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// Client is one IMAP connection.
type Client struct {
	conn net.Conn
	in   *bufio.Reader
	tag  int
}

// Dial connects and reads the greeting.
func (h *Host) Dial(t testing.TB) *Client {
	t.Helper()
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := &Client{conn: conn, in: bufio.NewReader(conn)}
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return c
}

// Login connects and logs in; it fails the test unless that works.
func (h *Host) Login(t testing.TB, user, password string) *Client {
	t.Helper()
	c := h.Dial(t)
	if text, ok := c.TryLogin(user, password); !ok {
		t.Fatalf("the login of %s failed: %s", user, text)
	}
	return c
}

// TryLogin tells whether a login worked, and what the server said.
func (c *Client) TryLogin(user, password string) (string, bool) {
	return c.Try(fmt.Sprintf("LOGIN %q %q", user, password))
}

// Do sends a command and returns everything up to its end; it fails the test unless the server says OK.
func (c *Client) Do(t testing.TB, format string, args ...any) string {
	t.Helper()
	text, ok := c.Try(fmt.Sprintf(format, args...))
	if !ok {
		t.Fatalf("%s: %s", fmt.Sprintf(format, args...), text)
	}
	return text
}

// Try is Do for commands that may fail, the connection included.
func (c *Client) Try(command string) (string, bool) {
	c.tag++
	tag := fmt.Sprintf("a%d ", c.tag)
	if _, err := fmt.Fprintf(c.conn, "%s%s\r\n", tag, command); err != nil {
		return err.Error(), false
	}
	var all strings.Builder
	for {
		line, err := c.in.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			return all.String() + err.Error(), false
		}
		if rest, ok := strings.CutPrefix(line, tag); ok {
			return all.String(), strings.HasPrefix(rest, "OK")
		}
	}
}

// Close ends the connection without a word.
func (c *Client) Close() { _ = c.conn.Close() }
