package fs

import (
	"context"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/tree"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/worker"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// WorkerLimits bound what conversions take from the machine; 0 means no limit.
type WorkerLimits = worker.Limits

// Report counts what a conversion has met.
type Report = worker.Report

// Encrypt converts what of the tree of u is not encrypted under the key that new
// content would get: plain entries, and content under the site's keys once u is
// unlocked. With dry it only counts. show, if not nil, gets the counts so far after
// each entry. One call is one pass: entries that are in use are counted as Busy and
// left to the next. Safe beside everything else that happens in the view.
func (v *View) Encrypt(ctx context.Context, u account.User, dry bool, show func(Report)) (Report, error) {
	return v.worker.Run(ctx, u, tree.Encrypt, dry, show)
}

// Sealed reports whether nothing of the tree of u is left to Encrypt, nor open, under
// anything but current keys, so that retired ones can go: a whole pass has found no such entry, entries
// that were renamed meanwhile included. Plain entries that plain = "refuse" keeps out do
// not count. The report says what the pass has met. It changes nothing.
func (v *View) Sealed(ctx context.Context, u account.User) (bool, Report, error) {
	r, err := v.worker.Run(ctx, u, tree.Encrypt, true, nil)
	if err != nil {
		return false, r, err
	}
	done := r.Left == 0 && r.Busy == 0 && r.Locked == 0 && r.Failed == r.Refused
	return done && !v.tree.OpenUnderRetired(u), r, nil
}

// Decrypt is the way back: it turns the tree of u, who has to be unlocked, into
// plain files and names. Otherwise as Encrypt.
func (v *View) Decrypt(ctx context.Context, u account.User, dry bool, show func(Report)) (Report, error) {
	return v.worker.Run(ctx, u, tree.Decrypt, dry, show)
}
