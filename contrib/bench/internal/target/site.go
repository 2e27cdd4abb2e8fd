package target

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/mailcryptfs/mailcryptfs/pam/wire"
)

// Site is an installation of mailcryptfs without users, whose daemon can be started and stopped. It is not safe for
// concurrent use, but for Login.
type Site struct {
	View string // the mount point

	site *site
	env  Env
	d    *daemon
}

// NewSite prepares an installation. Close takes it away, but not its data.
func NewSite(e Env) (*Site, error) {
	m, err := e.newSite("mailcryptfs")
	if err != nil {
		return nil, err
	}
	return &Site{View: m.view, site: m, env: e}, nil
}

// Start starts the daemon and returns how long it took until the view was there and logins were answered.
func (s *Site) Start() (time.Duration, error) {
	if err := os.Remove(s.logins()); err != nil && !errors.Is(err, os.ErrNotExist) { // of the one before
		return 0, err
	}
	began := time.Now()
	var err error
	if s.d, err = s.env.serve("mailcryptfs", s.View, s.site.program, "--config", s.site.config, "serve"); err != nil {
		return 0, err
	}
	for {
		conn, err := net.Dial("unix", s.logins())
		if err == nil {
			return time.Since(began), conn.Close()
		}
		if time.Since(began) > startTime {
			return 0, err
		}
		time.Sleep(time.Millisecond)
	}
}

func (s *Site) logins() string { return filepath.Join(s.site.runtime, "pam.sock") }

// Stop ends the daemon.
func (s *Site) Stop() error {
	if s.d == nil {
		return nil
	}
	defer func() { s.d = nil }()
	return s.d.stop()
}

// Close ends the daemon and takes the installation away.
func (s *Site) Close() error { return errors.Join(s.Stop(), s.site.close()) }

// Daemon returns the daemon's process id.
func (s *Site) Daemon() int { return s.d.process.Pid }

// Login does what a login with the benchmark's password does: it enrols a user who has no key, and unlocks him.
func (s *Site) Login(ctx context.Context, user string) error {
	answer, err := wire.Ask(ctx, s.logins(),
		wire.Request{Kind: wire.Login, User: user, Service: "bench", Password: []byte(password)})
	if err == nil && answer.Status != wire.OK {
		err = fmt.Errorf("the daemon answered %v to a login of %s: %s", answer.Status, user, answer.Text)
	}
	return err
}

// Lock locks a user.
func (s *Site) Lock(user string) error { return s.site.lock(user) }

// Inodes returns how many inodes the daemon holds.
func (s *Site) Inodes() (int, error) {
	out, err := run("", s.site.program, "--config", s.site.config, "status", "--json")
	if err != nil {
		return 0, err
	}
	var status struct {
		Counters struct {
			Inodes int `json:"inodes"`
		} `json:"counters"`
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		return 0, fmt.Errorf("status --json: %w", err)
	}
	return status.Counters.Inodes, nil
}
