package soak

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"github.com/mailcryptfs/mailcryptfs/integration/session/imaphost"
)

// mailUID owns all mail, user and group: Debian's user mail.
const mailUID = 8

// patience is how long one command may take on a busy machine.
const patience = client.Patience

const conf = imaphost.Beside + `
protocols = imap lmtp
first_valid_uid = 8
mail_location = maildir:~
mail_fsync = optimized
mail_temp_dir = @dir@/tmp
passdb {
  driver = static
  args = password=pw
}
userdb {
  driver = static
  args = uid=8 gid=8 home=@view@/%u allow_all_users=yes
}
namespace inbox {
  inbox = yes
  mailbox Archive {
    auto = create
  }
}
`

// host is a Dovecot over a view.
type host struct{ dir string }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// startHost runs Dovecot until the test ends.
func startHost(t testing.TB, view string) *host {
	t.Helper()
	h := &host{dir: harness.Dir(t)}
	text := strings.NewReplacer("@dir@", h.dir, "@view@", view).Replace(conf)
	must(t, os.WriteFile(h.dir+"/conf", []byte(text), 0o644))
	must(t, os.Mkdir(h.dir+"/tmp", 0o755))
	must(t, os.Chmod(h.dir+"/tmp", 0o1777))
	must(t, os.WriteFile(h.dir+"/log", nil, 0o666))
	must(t, os.Chmod(h.dir+"/log", 0o666))
	cmd := exec.Command("dovecot", "-F", "-c", h.dir+"/conf")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		timer.Stop()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the rest of its group
	})
	harness.Eventually(t, patience, "dovecot listens", func() bool {
		_, err := os.Stat(h.dir + "/run/lmtp")
		_, err2 := os.Stat(h.dir + "/run/imap")
		return err == nil && err2 == nil
	})
	return h
}

var (
	complaint = regexp.MustCompile(`: (Error|Warning|Fatal|Panic): `)
	// refusal is an open of a private file that its locked user has to expect, and what Dovecot says of it next.
	refusal = regexp.MustCompile(`(/(cur|new|tmp)/|dovecot\.index\.cache).*Permission denied|Permission denied.*(/(cur|new|tmp)/|dovecot\.index\.cache)`)
)

// complaints are the lines of Dovecot's log that are neither information nor refused opens, and how many of the latter there are.
func (h *host) complaints(t testing.TB) (all []string, refusals int) {
	t.Helper()
	b, err := os.ReadFile(h.dir + "/log")
	must(t, err)
	for line := range strings.Lines(string(b)) {
		switch {
		case !complaint.MatchString(line), strings.Contains(line, "Warning: Time moved"): // a busy machine
		case refusal.MatchString(line):
			refusals++
		default:
			all = append(all, line)
		}
	}
	return all, refusals
}

func (h *host) dial(socket string) (net.Conn, error) {
	for began := time.Now(); ; {
		conn, err := net.Dial("unix", filepath.Join(h.dir, "run", socket))
		if err == nil {
			return conn, conn.SetDeadline(time.Now().Add(patience))
		}
		if !errors.Is(err, syscall.EAGAIN) || time.Since(began) > patience {
			return nil, err
		}
		time.Sleep(10 * time.Millisecond) // its queue is full
	}
}

// deferred is the answer that has the sender try again.
const deferred = 451

// lmtp delivers a message and returns the codes for the recipients.
func (h *host) lmtp(message string, users ...string) ([]int, error) {
	conn, err := h.dial("lmtp")
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	c := textproto.NewConn(conn)
	say := func(want int, line string) error {
		if line != "" {
			if err := c.PrintfLine("%s", line); err != nil {
				return err
			}
		}
		_, text, err := c.ReadResponse(want)
		if err != nil {
			return fmt.Errorf("%q: %w %s", line, err, text)
		}
		return nil
	}
	err = errors.Join(say(220, ""), say(250, "LHLO client.example.org"), say(250, "MAIL FROM:<sender@example.net>"))
	for _, u := range users {
		if err == nil {
			err = say(250, "RCPT TO:<"+u+">")
		}
	}
	if err == nil {
		err = say(354, "DATA")
	}
	if err != nil {
		return nil, err
	}
	w := c.DotWriter()
	if _, err := io.WriteString(w, message); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	var codes []int
	for range users {
		code, text, err := c.ReadResponse(0)
		if err != nil && code == 0 {
			return codes, err
		}
		if code != 250 && code != deferred {
			return codes, fmt.Errorf("delivery: %d %s", code, text)
		}
		codes = append(codes, code)
	}
	return codes, say(221, "QUIT")
}

// imap is one IMAP connection that has logged in.
type imap struct{ *client.IMAP }

func (h *host) login(user string) (*imap, error) {
	conn, err := h.dial("imap")
	if err != nil {
		return nil, err
	}
	greeted, err := client.OpenIMAP(conn)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c := &imap{greeted}
	if _, err := c.do("LOGIN %s pw", user); err != nil {
		c.Close()
		return nil, fmt.Errorf("LOGIN %s: %w", user, err)
	}
	return c, nil
}

// do sends a command and returns the untagged responses. The error is what the server said where it refused; else the
// connection is gone.
func (c *imap) do(format string, args ...any) ([]string, error) {
	all, err := c.Do(fmt.Sprintf(format, args...))
	if err != nil {
		return all, fmt.Errorf("%w after %.200q", err, all)
	}
	untagged, last := all[:len(all)-1], all[len(all)-1]
	if !strings.HasPrefix(last, "OK") {
		return untagged, errors.New(last)
	}
	return untagged, nil
}

// appendMessage stores a message in a folder.
func (c *imap) appendMessage(folder, message string) error {
	message = client.CRLF(message)
	_, err := c.do("APPEND %s {%d+}\r\n%s", folder, len(message), message)
	return err
}
