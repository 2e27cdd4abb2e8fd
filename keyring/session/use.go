package session

import (
	"context"
	"fmt"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// Files counts open files of the user as use, and files that were opened not long ago.
type Files struct {
	// Use returns how many private files of the user are open, and when one was opened last.
	Use  func(account.User) (open int, last time.Time)
	Idle time.Duration // how long an opened file counts as use; 0: while it is open
	Now  func() time.Time
}

// Name implements Source.
func (f *Files) Name() string { return "open files" }

// Decides implements Source: with Idle, who opens nothing for so long is gone.
func (f *Files) Decides(account.User) bool { return f.Idle > 0 }

// InUse implements Source. It never fails.
func (f *Files) InUse(_ context.Context, unlocked []account.User) (map[account.User]string, error) {
	users := make(map[account.User]string)
	now := f.Now()
	for _, u := range unlocked {
		switch open, last := f.Use(u); {
		case open == 1:
			users[u] = "1 open file"
		case open > 1:
			users[u] = fmt.Sprintf("%d open files", open)
		case f.Idle > 0 && !last.IsZero() && now.Sub(last) < f.Idle:
			users[u] = "opened a file at " + last.Local().Format(time.TimeOnly)
		}
	}
	return users, nil
}
