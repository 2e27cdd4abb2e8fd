package dovecot

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/textproto"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

func TestMain(m *testing.M) {
	harness.OneMore()
	os.Exit(harness.Main(m, nil))
}

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

// begin opens an LMTP session and names sender and recipients.
func (h *host) begin(t testing.TB, users ...string) *client.Transaction {
	t.Helper()
	return client.Begin(t, h.dial(t, "lmtp"), users...)
}

// lmtp delivers one message to recipients in one transaction, and returns the answer for each. A connection that is lost
// is no answer, even if it is lost in the same way on ext4.
func (h *host) lmtp(t testing.TB, message string, users ...string) []string {
	t.Helper()
	answers := h.begin(t, users...).Data(t, message)
	for _, a := range answers {
		if strings.HasPrefix(a, client.Gone) {
			t.Fatalf("LMTP: %q", answers)
		}
	}
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

// login connects as a user by an administrator's right: without the user's password, and so without the key.
func (h *host) login(t testing.TB, user string) *client.IMAP {
	t.Helper()
	c, err := h.tryLogin(t, user+"*master", "pw")
	must(t, err)
	return c
}

// enter connects as a user with the user's password, through PAM.
func (h *host) enter(t testing.TB, user string) *client.IMAP {
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
func (h *host) tryLogin(t testing.TB, user, password string) (*client.IMAP, error) {
	t.Helper()
	c, err := client.OpenIMAP(h.dial(t, "imap"))
	if err != nil {
		return nil, err
	}
	if answer, ok := c.Try("LOGIN %s {%d+}\r\n%s", user, len(password), password); !ok {
		return nil, fmt.Errorf("LOGIN %s: %q", user, answer)
	}
	return c, nil
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
