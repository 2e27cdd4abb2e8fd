// Package mail measures a mail server, Dovecot, whose mail lies on a target: a burst of deliveries, and clients that
// read, flag, add and remove messages.
package mail

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/target"
)

// The mail of all users belongs to one user id, as with virtual users. No account of that number needs to exist.
const mailID = 7990

const (
	startTime = 20 * time.Second
	stopTime  = 20 * time.Second
)

// Server is a Dovecot of its own for one target.
type Server struct {
	Target *target.Target

	users      []string
	lmtp, imap string // addresses
	dir        string // of its configuration, sockets and log
	process    *os.Process
	done       chan struct{}
}

// Start prepares the homes of so many users of the target and starts a Dovecot for them, which keeps its own files in
// dir. Stop ends it.
func Start(t *target.Target, users int, dir string) (*Server, error) {
	s := &Server{Target: t, dir: dir}
	if err := s.homes(users); err != nil {
		return nil, err
	}
	if err := s.configure(); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command("dovecot", "-F", "-c", s.config())
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s.process, s.done = cmd.Process, make(chan struct{})
	go func() {
		_ = cmd.Wait() // its log says why it ended
		close(s.done)
	}()
	for _, address := range []string{s.lmtp, s.imap} {
		if err := s.await(address); err != nil {
			return nil, errors.Join(err, s.Stop())
		}
	}
	return s, nil
}

func (s *Server) config() string { return filepath.Join(s.dir, "dovecot.conf") }

// homes makes the users' homes, and lets the mail's user id reach them.
func (s *Server) homes(users int) error {
	for i := range users {
		home, err := s.Target.Home(i)
		if err == nil {
			err = os.Chown(home, mailID, mailID)
		}
		if err == nil && i == 0 {
			err = os.Chmod(filepath.Dir(home), 0o711)
		}
		if err != nil {
			return err
		}
		s.users = append(s.users, filepath.Base(home))
	}
	return nil
}

func (s *Server) configure() (err error) {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	if s.lmtp, err = freeAddress(); err != nil {
		return err
	}
	if s.imap, err = freeAddress(); err != nil {
		return err
	}
	home, err := s.Target.Home(0)
	if err != nil {
		return err
	}
	r := strings.NewReplacer("DIR", s.dir, "ROOT", filepath.Dir(home), "ID", fmt.Sprint(mailID),
		"LMTP_PORT", port(s.lmtp), "IMAP_PORT", port(s.imap))
	text := r.Replace(settings)
	if s.Target.Name == target.MailCrypt {
		text += r.Replace(mailCrypt)
	}
	return os.WriteFile(s.config(), []byte(text), 0o644)
}

// settings are Dovecot's, as delivered but for users, places and ports.
const settings = `
base_dir = DIR/run
state_dir = DIR/state
log_path = DIR/log
protocols = imap lmtp
ssl = no
disable_plaintext_auth = no
mail_location = maildir:ROOT/%u
mail_uid = ID
mail_gid = ID
first_valid_uid = ID
first_valid_gid = ID
mail_max_userip_connections = 100
postmaster_address = postmaster@example.org
passdb {
  driver = static
  args = password=benchmark
}
userdb {
  driver = static
  args = uid=ID gid=ID home=ROOT/%u
}
service lmtp {
  inet_listener lmtp {
    address = 127.0.0.1
    port = LMTP_PORT
  }
}
service imap-login {
  inet_listener imap {
    address = 127.0.0.1
    port = IMAP_PORT
  }
  inet_listener imaps {
    port = 0
  }
}
service anvil {
  client_limit = 1000
}
`

// mailCrypt adds Dovecot's own encryption, with a key pair for each user.
const mailCrypt = `
mail_plugins = $mail_plugins mail_crypt
mail_attribute_dict = file:%h/dovecot-attributes
plugin {
  mail_crypt_curve = prime256v1
  mail_crypt_save_version = 2
}
`

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func port(address string) string {
	_, p, _ := net.SplitHostPort(address) // of a listener: well-formed
	return p
}

// await waits until the server answers at an address.
func (s *Server) await(address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	for {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-s.done:
			return fmt.Errorf("dovecot ended at once:\n%s", s.said())
		case <-ctx.Done():
			return fmt.Errorf("dovecot does not answer at %s: %w\n%s", address, err, s.said())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// said returns what the server has written.
func (s *Server) said() string {
	output, _ := os.ReadFile(filepath.Join(s.dir, "output"))
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(output) + string(log)
}

// Complaints returns the lines of the server's log that tell of errors.
func (s *Server) Complaints() []string {
	var lines []string
	for line := range strings.Lines(s.said()) {
		if strings.Contains(line, "Error: ") || strings.Contains(line, "Fatal: ") || strings.Contains(line, "Panic: ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// Stop ends the server.
func (s *Server) Stop() error {
	_ = s.process.Signal(unix.SIGTERM) // it may have ended already
	select {
	case <-s.done:
		return nil
	case <-time.After(stopTime):
		_ = s.process.Kill()
		<-s.done
		return errors.New("dovecot did not end")
	}
}
