package dovecot

import (
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// mbsync keeps a copy of a mailbox. It logs in by an administrator's right, so that it unlocks nobody.
type mbsync struct {
	h   *host
	dir string
}

const mbsyncConf = `IMAPAccount it
Host 127.0.0.1
Port @port@
User @user@*master
Pass pw
SSLType None
AuthMechs LOGIN

IMAPStore far
Account it

MaildirStore near
Path @dir@/
Inbox @dir@/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Remove Both
Expunge Both
SyncState *
`

func (h *host) newMbsync(t testing.TB, user string) *mbsync {
	t.Helper()
	m := &mbsync{h: h, dir: harness.Dir(t)}
	_, port, err := net.SplitHostPort(h.relay(t))
	must(t, err)
	text := strings.NewReplacer("@port@", port, "@user@", user, "@dir@", m.dir).Replace(mbsyncConf)
	must(t, os.WriteFile(m.conf(), []byte(text), 0o600))
	return m
}

func (m *mbsync) conf() string { return filepath.Join(m.dir, "mbsyncrc") }

// relay takes connections on the loopback interface and passes them to Dovecot's socket, until the test ends.
func (h *host) relay(t testing.TB) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	pass := func(from, to net.Conn) {
		_, _ = io.Copy(to, from)
		_ = from.Close()
		_ = to.Close()
	}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", h.socket("imap"))
			if err != nil {
				_ = client.Close()
				continue
			}
			go pass(client, server)
			go pass(server, client)
		}
	}()
	return l.Addr().String()
}

// run brings both sides together, and returns the messages of the copy: name, flags included, and text. A side that
// cannot be read is an error.
func (m *mbsync) run(t testing.TB) map[string]string {
	t.Helper()
	if out, err := m.try(); err != nil {
		t.Errorf("mbsync: %v: %s", err, out)
	}
	return m.copy(t)
}

func (m *mbsync) try() (string, error) {
	out, err := m.h.m.Command("mbsync", "-c", m.conf(), "all").CombinedOutput()
	return string(out), err
}

func (m *mbsync) copy(t testing.TB) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, path := range messages(t, m.dir) {
		content, err := os.ReadFile(path)
		must(t, err)
		all[strings.TrimPrefix(path, m.dir)] = fmt.Sprintf("%.100q and so on, %d bytes", content, len(content))
	}
	return all
}

// TestMbsync brings the copy of a locked user up to date while there is new mail: it cannot come, and nothing else may
// happen. It comes after the next login.
func TestMbsync(t *testing.T) {
	t.Parallel()
	const user = "alice"
	_, h := newSite(t, options{users: []string{user}})
	h.populate(t, user)
	sync := h.newMbsync(t, user)
	h.unlock(t, user)
	had := sync.run(t)
	h.lock(t, user)
	h.deliver(t, client.Message("news", 5), user)
	h.sealed(t, user)
	before := h.snapshot(t, user)
	for range 2 {
		if out, err := sync.try(); err == nil {
			t.Errorf("mbsync got a message of a locked user: %s", out)
		}
		if now := sync.copy(t); !maps.Equal(had, now) {
			t.Errorf("mbsync changed its copy: %q, before %q", now, had)
		}
	}
	h.unlock(t, user)
	if now := sync.run(t); len(now) != len(had)+1 {
		t.Errorf("%d messages after the login, want %d", len(now), len(had)+1)
	}
	// The first session that opens a folder takes the mark of new messages away.
	recent := strings.NewReplacer(`\Recent `, "", `\Recent`, "")
	client.Same(t, "mbsync", recent.Replace(before), recent.Replace(h.snapshot(t, user)))
	h.judgeLog(t, nil)
}
