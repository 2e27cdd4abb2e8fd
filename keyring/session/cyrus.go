package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// Cyrus reads the directory in which each process of Cyrus writes whom it serves: files named by process id with the
// fields service, host, user, mailbox and command, separated by tabs. A process that was killed leaves its file behind,
// and another one may get its id: a file counts only if a process of that id began before the file was written.
type Cyrus struct {
	Dir string // proc in the configdirectory
}

// procFile is the largest file that is read, in bytes.
const procFile = 8 << 10

// Name implements Source.
func (c *Cyrus) Name() string { return "Cyrus' sessions in " + c.Dir }

// Decides implements Source: who is in no file has no session.
func (c *Cyrus) Decides(account.User) bool { return true }

// InUse implements Source. A directory that is not there has no sessions: Cyrus makes it with the first one.
func (c *Cyrus) InUse(_ context.Context, _ []account.User) (map[account.User]string, error) {
	names, err := os.ReadDir(c.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list the sessions of Cyrus: %w", err)
	}
	boot, err := bootTime()
	if err != nil {
		return nil, err
	}
	users := make(map[account.User]string)
	for _, name := range names {
		pid, err := strconv.Atoi(name.Name())
		if err != nil || pid <= 0 {
			continue // a file that is being written
		}
		user, service, err := c.session(filepath.Join(c.Dir, name.Name()), pid, boot)
		if err != nil {
			return users, fmt.Errorf("cannot read a session of Cyrus: %w", err)
		}
		if user != "" {
			users[account.User(user)] = fmt.Sprintf("%s session of process %d (Cyrus)", service, pid)
		}
	}
	return users, nil
}

// session returns whom the process serves, or "".
func (c *Cyrus) session(path string, pid int, boot time.Time) (user, service string, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", "", nil // the session ended meanwhile
	}
	if err != nil {
		return "", "", err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return "", "", err
	}
	text := make([]byte, procFile)
	n, _ := f.ReadAt(text, 0)
	if n == 0 {
		return "", "", nil // half made
	}
	line, _, _ := strings.Cut(string(text[:n]), "\n")
	fields := strings.Split(strings.TrimRight(line, "\r"), "\t")
	if len(fields) < 3 || fields[2] == "" || strings.HasPrefix(fields[0], "lmtp") {
		return "", "", nil // nobody has logged in, or a delivery
	}
	start, err := startTime(pid)
	if errors.Is(err, errNoProcess) {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	// The kernel counts the start in hundredths of a second.
	began := boot.Add(time.Duration(start) * 10 * time.Millisecond)
	if began.After(info.ModTime().Add(2 * time.Second)) {
		return "", "", nil // another process, which got the id of one that was killed
	}
	return fields[2], fields[0], nil
}

// bootTime returns when the system began to count the start times of processes (CLOCK_BOOTTIME).
func bootTime() (time.Time, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Time{}, err
	}
	return time.Now().Add(-time.Duration(ts.Nano())), nil
}
