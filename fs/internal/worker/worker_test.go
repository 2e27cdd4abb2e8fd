package worker

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/tree"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// holder knows whether the user is unlocked, and no keys.
type holder struct {
	tree.KeySource
	holds bool
}

func (h holder) Holds(account.User) bool { return h.holds }

// TestFailedForgotten: a user who is forgotten during a pass was locked, and the log does not name all that he had. Whose keys
// were gone before has entries that cannot be converted.
func TestFailedForgotten(t *testing.T) {
	t.Parallel()
	forgotten := fmt.Errorf("key record: %w", secret.ErrNotEnrolled)
	for _, tt := range []struct {
		keyed, holds bool
		err          error
		want         Report
	}{
		{true, false, forgotten, Report{Locked: 2}},
		{false, false, forgotten, Report{Failed: 2}},
		{true, true, forgotten, Report{Failed: 2}}, // a key of somebody else
		{true, true, secret.ErrLocked, Report{Locked: 2}},
		{true, false, secret.ErrUnknownKey, Report{Failed: 2}},
	} {
		var log bytes.Buffer
		root := &inode.Inode{}
		w := New(&tree.Tree{Options: tree.Options{Keys: holder{holds: tt.holds}}, Table: &inode.Table{Root: root}},
			slog.New(slog.NewTextHandler(&log, nil)), Limits{})
		p := &pass{Worker: w, keyed: tt.keyed}
		p.failed(tree.Name{Dir: root, Name: "cur"}, 2, tt.err)
		if p.report != tt.want || (log.Len() > 0) != (tt.want.Failed > 0) {
			t.Errorf("%+v: %+v, %s", tt, p.report, log.String())
		}
	}
}
