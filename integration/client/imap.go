package client

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Patience is how long any answer may take on a busy machine. It is longer than a server's poll for news of a mailbox, a
// minute with Cyrus: one announcement that came by it is late, and no error.
const Patience = 90 * time.Second

// IMAP is one IMAP connection. It is for one goroutine.
type IMAP struct {
	conn net.Conn
	in   *bufio.Reader
	tag  int
}

// OpenIMAP reads the greeting of a server. The caller closes the connection if there is none.
func OpenIMAP(conn net.Conn) (*IMAP, error) {
	c := &IMAP{conn: conn, in: bufio.NewReader(conn)}
	line, err := c.Line()
	if err == nil && !strings.HasPrefix(line, "* OK") {
		err = errors.New("not OK")
	}
	if err != nil {
		return nil, fmt.Errorf("the IMAP server's greeting: %q: %w", line, err)
	}
	return c, nil
}

// NewIMAP is OpenIMAP for servers that must answer. The connection is closed when the test ends.
func NewIMAP(t testing.TB, conn net.Conn) *IMAP {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() })
	c, err := OpenIMAP(conn)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var literal = regexp.MustCompile(`\{(\d+)\}\r\n$`)

// Line reads one response with the literals in it.
func (c *IMAP) Line() (string, error) {
	if err := c.conn.SetDeadline(time.Now().Add(Patience)); err != nil {
		return "", err
	}
	var all strings.Builder
	for {
		line, err := c.in.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			return all.String(), err
		}
		m := literal.FindStringSubmatch(line)
		if m == nil {
			return all.String(), nil
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return all.String(), err
		}
		if _, err := io.CopyN(&all, c.in, int64(n)); err != nil {
			return all.String(), err
		}
	}
}

// Do sends a command and returns the responses without their line ends, the last one without its tag. An error means that
// the connection is gone; the responses say why.
func (c *IMAP) Do(command string) ([]string, error) {
	c.tag++
	tag := fmt.Sprintf("a%d ", c.tag)
	if err := c.conn.SetDeadline(time.Now().Add(Patience)); err != nil {
		return nil, err
	}
	_, writeErr := io.WriteString(c.conn, tag+command+"\r\n")
	var all []string
	for {
		line, err := c.Line()
		line = strings.TrimSuffix(line, "\r\n")
		if err != nil {
			return all, errors.Join(writeErr, err)
		}
		if rest, ok := strings.CutPrefix(line, tag); ok {
			return append(all, rest), nil
		}
		all = append(all, line)
	}
}

// Try is Do for commands that may be refused: everything that was said, and whether it ended with OK.
func (c *IMAP) Try(format string, args ...any) ([]string, bool) {
	all, err := c.Do(fmt.Sprintf(format, args...))
	return all, err == nil && strings.HasPrefix(all[len(all)-1], "OK")
}

// OK is Do for commands that must work; it returns the untagged responses.
func (c *IMAP) OK(t testing.TB, format string, args ...any) []string {
	t.Helper()
	all, ok := c.Try(format, args...)
	if !ok {
		t.Fatalf("%s: %q", fmt.Sprintf(format, args...), all)
	}
	return all[:len(all)-1]
}

// Login logs in with a user's own password.
func (c *IMAP) Login(user, password string) ([]string, bool) {
	return c.Try("LOGIN %q %q", user, password)
}

// LoginAs logs in as a user by the name and password of somebody who may do that.
func (c *IMAP) LoginAs(user, name, password string) ([]string, bool) {
	return c.Try("AUTHENTICATE PLAIN %s", base64.StdEncoding.EncodeToString([]byte(user+"\x00"+name+"\x00"+password)))
}

// Append adds a message to a folder; before is what stands before the text: flags, date.
func (c *IMAP) Append(t testing.TB, folder, before, text string) {
	t.Helper()
	c.OK(t, "APPEND %q %s{%d+}\r\n%s", folder, before, len(text), text)
}

// Idle sends IDLE and waits for the server's assent. What is announced then is read by Line, until the connection is
// closed.
func (c *IMAP) Idle(t testing.TB) {
	t.Helper()
	if _, err := io.WriteString(c.conn, "idle IDLE\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := c.Line(); err != nil || !strings.HasPrefix(line, "+ ") {
		t.Fatalf("IDLE: %q %v", line, err)
	}
}

// Logout ends the session as a client does.
func (c *IMAP) Logout() error {
	_, err := c.Do("LOGOUT")
	return errors.Join(err, c.conn.Close())
}

// Close ends the connection without a word.
func (c *IMAP) Close() { _ = c.conn.Close() }
