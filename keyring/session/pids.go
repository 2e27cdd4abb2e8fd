package session

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// ErrNoProcess says that a process that shall be registered is not there.
var ErrNoProcess = errNoProcess

// PIDs are processes that were registered as sessions, for instance by a post-login script. They are kept in a file, so
// that a daemon that is started again knows them still. It is safe for concurrent use.
type PIDs struct {
	path string

	mu         sync.Mutex
	sessions   []pidSession          // guarded by mu
	registered map[account.User]bool // since they were seen locked; guarded by mu
}

// pidSession is one registered process.
type pidSession struct {
	User  []byte `json:"user"`
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // startTime
	fd    int
}

// OpenPIDs takes up the processes that a file in a directory of root names and that still run. A file that is not there
// is made with the first registration; one that cannot be read is an error, and nobody is registered then.
func OpenPIDs(path string) (*PIDs, error) {
	p := &PIDs{path: path, registered: make(map[account.User]bool)}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var s pidSession
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return p, fmt.Errorf("%s: %w", path, err)
		}
		p.registered[account.User(s.User)] = true
		if fresh, err := openPID(account.User(s.User), s.PID); err == nil {
			if fresh.Start == s.Start {
				p.sessions = append(p.sessions, fresh)
			} else {
				_ = unix.Close(fresh.fd)
			}
		}
	}
	return p, lines.Err()
}

func openPID(u account.User, pid int) (pidSession, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return pidSession{}, ErrNoProcess
	}
	if err != nil {
		return pidSession{}, fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	start, err := startTime(pid)
	if err != nil {
		_ = unix.Close(fd)
		return pidSession{}, err
	}
	return pidSession{User: []byte(u), PID: pid, Start: start, fd: fd}, nil
}

// Register notes that the process is a session of the user until it ends. Registering it twice is once. Errors:
// ErrNoProcess, or that of the file.
func (p *PIDs) Register(u account.User, pid int) error {
	s, err := openPID(u, pid)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, known := range p.sessions {
		if known.PID == s.PID && known.Start == s.Start && account.User(known.User) == u {
			_ = unix.Close(s.fd)
			return nil
		}
	}
	p.sessions = append(p.sessions, s)
	p.registered[u] = true
	return p.saveLocked()
}

// saveLocked writes the file anew. It lies in memory and needs no fsync.
func (p *PIDs) saveLocked() error {
	var text []byte
	for _, s := range p.sessions {
		line, err := json.Marshal(s)
		if err != nil {
			return err
		}
		text = append(append(text, line...), '\n')
	}
	fresh := p.path + ".new"
	if err := os.WriteFile(fresh, text, 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, p.path)
}

// Name implements Source.
func (p *PIDs) Name() string { return "registered processes" }

// Decides implements Source: for users for whom a process was registered since they were unlocked.
func (p *PIDs) Decides(u account.User) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.registered[u]
}

// InUse implements Source. Processes that have ended are forgotten.
func (p *PIDs) InUse(_ context.Context, unlocked []account.User) (map[account.User]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	users := make(map[account.User]string)
	var alive []pidSession
	var errs []error
	for _, s := range p.sessions {
		gone, err := ended(s.fd)
		if err != nil {
			errs = append(errs, fmt.Errorf("process %d: %w", s.PID, err))
		}
		if gone {
			_ = unix.Close(s.fd)
			continue
		}
		alive = append(alive, s)
		users[account.User(s.User)] = fmt.Sprintf("process %d (registered)", s.PID)
	}
	if len(alive) < len(p.sessions) {
		p.sessions = alive
		errs = append(errs, p.saveLocked())
	}
	p.forgetLocked(unlocked, users)
	return users, errors.Join(errs...)
}

// forgetLocked drops the note that locked users without processes were registered once.
func (p *PIDs) forgetLocked(unlocked []account.User, alive map[account.User]string) {
	keep := make(map[account.User]bool)
	for _, u := range unlocked {
		keep[u] = p.registered[u]
	}
	for u := range p.registered {
		if !keep[u] && alive[u] == "" {
			delete(p.registered, u)
		}
	}
}

// Close forgets the processes in memory; the file stays.
func (p *PIDs) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sessions {
		_ = unix.Close(s.fd)
	}
	p.sessions = nil
}
