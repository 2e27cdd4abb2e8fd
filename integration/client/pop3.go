package client

import (
	"net"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// POP3 is one POP3 connection (RFC 1939).
type POP3 struct{ c *textproto.Conn }

// NewPOP3 reads the greeting of a POP3 server. The connection is closed when the test ends.
func NewPOP3(t testing.TB, conn net.Conn) *POP3 {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(Patience)); err != nil {
		t.Fatal(err)
	}
	p := &POP3{textproto.NewConn(conn)}
	t.Cleanup(p.Close)
	p.ok(t, "")
	return p
}

// ok sends a command, if there is one, and fails the test unless the answer is +OK.
func (p *POP3) ok(t testing.TB, command string) {
	t.Helper()
	if command != "" {
		if err := p.c.PrintfLine("%s", command); err != nil {
			t.Fatal(err)
		}
	}
	if line, err := p.c.ReadLine(); err != nil || !strings.HasPrefix(line, "+OK") {
		t.Fatalf("POP3 %.4s: %q %v", command, line, err)
	}
}

// Login logs in.
func (p *POP3) Login(t testing.TB, user, password string) {
	t.Helper()
	p.ok(t, "USER "+user)
	p.ok(t, "PASS "+password)
}

// Lines sends a command that has an answer of several lines, and returns these.
func (p *POP3) Lines(t testing.TB, command string) []string {
	t.Helper()
	p.ok(t, command)
	lines, err := p.c.ReadDotLines()
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// Close ends the connection without a word.
func (p *POP3) Close() { _ = p.c.Close() }
