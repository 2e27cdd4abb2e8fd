package dovecot

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/textproto"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, nil)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// unwrap is the error of the system beneath a path error.
func unwrap(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

func (h *host) dial(t testing.TB, socket string) net.Conn {
	t.Helper()
	var conn net.Conn
	// The socket's queue may be full for a moment.
	harness.Eventually(t, patience, "dovecot takes a connection on "+socket, func() (ok bool) {
		var err error
		conn, err = net.Dial("unix", h.socket(socket))
		return err == nil
	})
	t.Cleanup(func() { _ = conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

// lmtp delivers one message to recipients in one transaction, and returns the answer for each.
func (h *host) lmtp(t testing.TB, message string, users ...string) []string {
	t.Helper()
	conn := h.dial(t, "lmtp")
	defer func() { _ = conn.Close() }()
	c := textproto.NewConn(conn)
	say := func(want int, format string, args ...any) string {
		t.Helper()
		if format != "" {
			must(t, c.PrintfLine(format, args...))
		}
		code, text, err := c.ReadResponse(0)
		if err != nil && code == 0 {
			t.Fatalf("LMTP %q: %v", fmt.Sprintf(format, args...), err)
		}
		if want > 0 && code != want {
			return fmt.Sprintf("%d %s (to %q)", code, text, fmt.Sprintf(format, args...))
		}
		return strconv.Itoa(code)
	}
	refuse := func(answer string) []string {
		all := make([]string, len(users))
		for i := range all {
			all[i] = answer
		}
		return all
	}
	if a := say(220, ""); a != "220" {
		return refuse(a)
	}
	if a := say(250, "LHLO client.example.org"); a != "250" {
		return refuse(a)
	}
	if a := say(250, "MAIL FROM:<sender@example.net>"); a != "250" {
		return refuse(a)
	}
	answers := make([]string, len(users))
	accepted := 0
	for i, u := range users {
		if answers[i] = say(250, "RCPT TO:<%s>", u); answers[i] == "250" {
			accepted++
		}
	}
	if accepted == 0 {
		return answers
	}
	if a := say(354, "DATA"); a != "354" {
		return refuse(a)
	}
	w := c.DotWriter()
	_, err := io.WriteString(w, message)
	must(t, errors.Join(err, w.Close()))
	for i := range users {
		if answers[i] == "250" {
			answers[i] = say(250, "")
		}
	}
	say(0, "QUIT")
	return answers
}

// deliver is lmtp for deliveries that must work.
func (h *host) deliver(t testing.TB, message string, users ...string) {
	t.Helper()
	for i, a := range h.lmtp(t, message, users...) {
		if a != "250" {
			t.Errorf("delivery to %s: %s", users[i], a)
		}
	}
}

// message is a mail that can be recognised by its subject; the text has extra lines.
func message(subject string, lines int) string {
	text := fmt.Sprintf("From: Sender <sender@example.net>\nTo: list@example.org\nSubject: %s\nDate: Mon, 2 Jan 2023 10:00:00 +0100\n"+
		"Message-ID: <%s@example.net>\nContent-Type: text/plain; charset=utf-8\n\nThis is the text of %s.\n",
		subject, strings.ReplaceAll(subject, " ", "-"), subject)
	for i := range lines {
		text += fmt.Sprintf("line %d of %s: äöü 0123456789 abcdefghijklmnopqrstuvwxyz\n", i, subject)
	}
	return text
}

// imap is one IMAP connection that has logged in.
type imap struct {
	conn net.Conn
	in   *bufio.Reader
	tag  int
}

// login connects as a user.
func (h *host) login(t testing.TB, user string) *imap {
	t.Helper()
	conn := h.dial(t, "imap")
	c := &imap{conn: conn, in: bufio.NewReader(conn)}
	if _, err := c.in.ReadString('\n'); err != nil {
		t.Fatalf("greeting: %v", err)
	}
	c.ok(t, "LOGIN %s pw", user)
	return c
}

// line reads one response with the literals in it.
func (c *imap) line() (string, error) {
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

var literal = regexp.MustCompile(`\{(\d+)\}\r\n$`)

// do sends a command and returns the responses, the last one without its tag. An error means that the connection is gone;
// the responses say why.
func (c *imap) do(format string, args ...any) ([]string, error) {
	c.tag++
	tag := fmt.Sprintf("a%d ", c.tag)
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	_, writeErr := fmt.Fprintf(c.conn, tag+format+"\r\n", args...)
	var all []string
	for {
		line, err := c.line()
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

// ok is do for commands that must work; it returns the untagged responses.
func (c *imap) ok(t testing.TB, format string, args ...any) []string {
	t.Helper()
	all, err := c.do(format, args...)
	if err != nil || !strings.HasPrefix(all[len(all)-1], "OK") {
		t.Fatalf("%s: %q %v", fmt.Sprintf(format, args...), all, err)
	}
	return all[:len(all)-1]
}

// folders are the names of all folders that can hold messages.
func (c *imap) folders(t testing.TB) []string {
	t.Helper()
	var names []string
	for _, line := range c.ok(t, `LIST "" "*"`) {
		if strings.Contains(line, `\Noselect`) {
			continue
		}
		_, name, found := strings.Cut(line, `"." `)
		if !found {
			t.Fatalf("LIST: %q", line)
		}
		names = append(names, strings.Trim(name, `"`))
	}
	return names
}

// pop3 logs in, runs commands that answer with several lines, and returns the answers.
func (h *host) pop3(t testing.TB, user string, commands ...string) (answers []string) {
	t.Helper()
	conn := h.dial(t, "pop3")
	defer func() { _ = conn.Close() }()
	c := textproto.NewConn(conn)
	say := func(command string) string {
		t.Helper()
		if command != "" {
			must(t, c.PrintfLine("%s", command))
		}
		line, err := c.ReadLine()
		if err != nil {
			return "CLOSED"
		}
		return line
	}
	for _, command := range []string{"", "USER " + user, "PASS pw"} {
		if line := say(command); !strings.HasPrefix(line, "+OK") {
			t.Fatalf("POP3 %q: %s", command, line)
		}
	}
	for _, command := range commands {
		answer := say(command)
		if strings.HasPrefix(answer, "+OK") {
			b, err := c.ReadDotBytes()
			if err != nil {
				answer = "CLOSED"
			}
			answer += "\n" + string(b)
		}
		answers = append(answers, answer)
	}
	return answers
}
