// Package audit keeps the audit log of a store: who unlocked, changed, recovered, exported or destroyed which user's
// keys, and when (FORMAT.md L1 to L8). Lines are only ever added, each carries a MAC and that of the line before it, and
// every host has a chain of its own, so that several daemons and the verbs that work without one can share a store.
//
// line.go and segment.go work on bytes and names, chain.go on a directory; log.go appends, read.go and verify.go read.
package audit

import (
	"errors"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// What can happen: the values of Event.What.
const (
	Enroll          = "enroll"
	Unlock          = "unlock"
	Lock            = "lock"
	SlotAdd         = "slot-add"
	SlotRevoke      = "slot-revoke"
	PasswordChange  = "password-change"
	PasswordReset   = "password-reset"
	Recover         = "recover"
	RecoveryRequest = "recovery-request"
	RecoveryApprove = "recovery-approve"
	Export          = "export"
	RotateStart     = "rotate-start"
	RotateEnd       = "rotate-end"
	Forget          = "forget"
	Leaktest        = "leaktest"
	Drill           = "drill"
)

// What the log says of itself (FORMAT.md L7).
const (
	Begin    = "log-begin" // a segment begins
	Lost     = "log-lost"  // events could not be written
	Torn     = "log-torn"  // the end of an interrupted write was removed
	CutShort = "log-cut"   // lines that were written before are not there any more
)

var (
	// ErrDamaged says that lines of the log were changed, removed, inserted or reordered; Verify tells which.
	ErrDamaged = errors.New("the audit log is damaged")
	// ErrUnsupported says that a segment has a version that this program does not know.
	ErrUnsupported = errors.New("audit log of an unsupported version")
	// ErrBusy says that another process held the lock of the log for too long.
	ErrBusy = errors.New("the audit log is locked by another process")
	// ErrClosed says that the log was closed.
	ErrClosed = errors.New("the audit log is closed")
)

// Limits of FORMAT.md L3. Longer texts are cut, so that no event is lost for its length.
const (
	maxText   = 256      // bytes of what, cause, by and peer
	maxDetail = 1024     // bytes
	maxLine   = 32 << 10 // bytes, the newline included
)

// Event is one thing that happened to the keys of a user.
type Event struct {
	Time   time.Time    `json:"time"` // kept to the millisecond; Append takes its own time for the zero time
	User   account.User `json:"user,omitempty"`
	What   string       `json:"what"`
	Cause  string       `json:"cause,omitempty"`  // why, for example "login" or "idle"
	By     string       `json:"by,omitempty"`     // who, for example "root" or "first login (imap)"
	Peer   string       `json:"peer,omitempty"`   // from where: a service or the address of a client
	Detail string       `json:"detail,omitempty"` // what else is to be known; never a secret
	Host   string       `json:"host,omitempty"`   // whose chain it stands in; set by Read, not used by Append
}

// synced tells whether the event is durable before Append returns. Logins are too many for that.
func (e *Event) synced() bool { return e.What != Unlock && e.What != Lock }
