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
	"slices"
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

// transaction is an LMTP session whose recipients have been named.
type transaction struct {
	c       *textproto.Conn
	answers []string // for each recipient: 250, or why not
}

// say sends a line, if there is one, and returns the code of the answer, with the text if it is not the code wanted.
func (x *transaction) say(t testing.TB, want int, format string, args ...any) string {
	t.Helper()
	if format != "" {
		must(t, x.c.PrintfLine(format, args...))
	}
	code, text, err := x.c.ReadResponse(0)
	if err != nil && code == 0 {
		t.Fatalf("LMTP %q: %v", fmt.Sprintf(format, args...), err)
	}
	if code != want {
		return fmt.Sprintf("%d %s", code, text)
	}
	return strconv.Itoa(code)
}

// begin opens an LMTP session and names sender and recipients.
func (h *host) begin(t testing.TB, users ...string) *transaction {
	t.Helper()
	x := &transaction{c: textproto.NewConn(h.dial(t, "lmtp"))}
	greeting := x.say(t, 220, "")
	hello := x.say(t, 250, "LHLO client.example.org")
	from := x.say(t, 250, "MAIL FROM:<sender@example.net>")
	if greeting != "220" || hello != "250" || from != "250" {
		t.Fatalf("LMTP: %s, %s, %s", greeting, hello, from)
	}
	for _, u := range users {
		x.answers = append(x.answers, x.say(t, 250, "RCPT TO:<%s>", u))
	}
	return x
}

// data sends the message and returns the answer for each recipient.
func (x *transaction) data(t testing.TB, message string) []string {
	t.Helper()
	defer func() { _ = x.c.Close() }()
	if !slices.Contains(x.answers, "250") {
		return x.answers
	}
	if a := x.say(t, 354, "DATA"); a != "354" {
		t.Fatalf("DATA: %s", a)
	}
	w := x.c.DotWriter()
	_, err := io.WriteString(w, message)
	must(t, errors.Join(err, w.Close()))
	for i, a := range x.answers {
		if a == "250" {
			x.answers[i] = x.say(t, 250, "")
		}
	}
	return x.answers
}

// lmtp delivers one message to recipients in one transaction, and returns the answer for each.
func (h *host) lmtp(t testing.TB, message string, users ...string) []string {
	t.Helper()
	return h.begin(t, users...).data(t, message)
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
	var text strings.Builder
	fmt.Fprintf(&text, "From: Sender <sender@example.net>\nTo: list@example.org\nSubject: %s\nDate: Mon, 2 Jan 2023 10:00:00 +0100\n"+
		"Message-ID: <%s@example.net>\nContent-Type: text/plain; charset=utf-8\n\nThis is the text of %s.\n",
		subject, strings.ReplaceAll(subject, " ", "-"), subject)
	for i := range lines {
		fmt.Fprintf(&text, "line %d of %s: äöü 0123456789 abcdefghijklmnopqrstuvwxyz\n", i, subject)
	}
	return text.String()
}

// imap is one IMAP connection that has logged in.
type imap struct {
	conn net.Conn
	in   *bufio.Reader
	tag  int
}

// login connects as a user by an administrator's right: without the user's password, and so without the key.
func (h *host) login(t testing.TB, user string) *imap {
	t.Helper()
	c, err := h.tryLogin(t, user+"*master", "pw")
	must(t, err)
	return c
}

// enter connects as a user with the user's password, through PAM.
func (h *host) enter(t testing.TB, user string) *imap {
	t.Helper()
	c, err := h.tryLogin(t, user, h.passwordOf(user))
	must(t, err)
	return c
}

// passwordOf is the password that a user logs in with.
func (h *host) passwordOf(user string) string {
	if changed, ok := h.changed[user]; ok {
		return changed
	}
	return string(harness.Password(user))
}

// tryLogin connects with a name and password that may be refused.
func (h *host) tryLogin(t testing.TB, user, password string) (*imap, error) {
	t.Helper()
	conn := h.dial(t, "imap")
	c := &imap{conn: conn, in: bufio.NewReader(conn)}
	if _, err := c.in.ReadString('\n'); err != nil {
		return nil, err
	}
	all, err := c.do("LOGIN %s {%d+}\r\n%s", user, len(password), password)
	if err != nil || !strings.HasPrefix(all[len(all)-1], "OK") {
		return nil, fmt.Errorf("LOGIN %s: %q %w", user, all, err)
	}
	return c, nil
}

// logout ends the session as a client does.
func (c *imap) logout(t testing.TB) {
	t.Helper()
	_, err := c.do("LOGOUT")
	must(t, err)
	_ = c.conn.Close()
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
func (h *host) pop3(t testing.TB, user, password string, commands ...string) (answers []string) {
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
	for _, command := range []string{"", "USER " + user, "PASS " + password} {
		if line := say(command); !strings.HasPrefix(line, "+OK") {
			t.Fatalf("POP3 %.4q: %s", command, line)
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
