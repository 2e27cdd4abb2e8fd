// Package control is the conversation between the verbs of mailcryptfs and its daemon: HTTP with JSON bodies over a unix
// socket that only root can use.
//
// The server asks the kernel who is at the other end (SO_PEERCRED, unix(7)) and answers nobody but root and the user
// that it runs as. Passwords travel in request bodies only, never in a path, a header or a Go string; both sides wipe
// what they held of them, the read buffer of the connection included.
package control

import (
	"context"
	"time"
)

// Service is what the daemon does for the verbs. Implementations are safe for concurrent use. Methods that take a
// password own it and wipe it before they return. An error that is an *Error reaches the client as it is; any other
// one becomes CodeInternal with its text.
type Service interface {
	// Enroll makes an identity for the user, with the password as its first slot. Whether the user is unlocked then is
	// for Status to tell.
	Enroll(ctx context.Context, user string, password []byte) error
	// Unlock opens the user's identity with the password.
	Unlock(ctx context.Context, user string, password []byte) error
	// Lock wipes what the daemon holds of the user's keys. changed is false if the user was locked before.
	Lock(ctx context.Context, user string) (changed bool, err error)
	// Status describes one user.
	Status(ctx context.Context, user string) (UserStatus, error)
	// Who describes every unlocked user, in the order of their names.
	Who(ctx context.Context) ([]UserStatus, error)
	// Daemon describes the daemon.
	Daemon(ctx context.Context) (DaemonStatus, error)
	// Register notes that a process is a session of the user: while it lives the user is in use.
	Register(ctx context.Context, user string, pid int) error
	// Convert converts a user's tree, or counts what that would take. With Wait it calls show now and then, never two
	// at once, and returns when the conversion has ended or ctx has.
	Convert(ctx context.Context, user string, r ConvertRequest, show func(Conversion)) (Conversion, error)

	Slots
}

// UserStatus describes one user. Field names in JSON are stable.
type UserStatus struct {
	User     string     `json:"user"`
	Enrolled bool       `json:"enrolled"`
	Unlocked bool       `json:"unlocked"`
	Since    *time.Time `json:"since,omitempty"`              // unlocked since
	By       string     `json:"by,omitempty"`                 // what unlocked: a key slot, or the keyring entry of one
	Keys     int        `json:"keys,omitempty"`               // content keys that are in memory
	Until    *time.Time `json:"delivery_key_until,omitempty"` // a delivery key is in memory until then
	Problem  string     `json:"problem,omitempty"`            // the last thing that went wrong, in one line
	Because  string     `json:"because,omitempty"`            // why an unlocked user is not locked
	LockAt   *time.Time `json:"lock_at,omitempty"`            // when he will be if nothing happens
	Plain    bool       `json:"kept_plain,omitempty"`         // decrypt was asked for: nothing converts the tree back

	Conversion *Conversion `json:"conversion,omitempty"` // the one that goes on, or the last since the unlock
	Recovery   *Survey     `json:"recovery,omitempty"`   // of an enrolled user
}

// DaemonStatus describes the daemon. Field names in JSON are stable.
type DaemonStatus struct {
	Version  string    `json:"version"`
	PID      int       `json:"pid"`
	Started  time.Time `json:"started"`
	Store    string    `json:"store"`
	View     string    `json:"view"`
	Profile  string    `json:"profile"`
	Delivery string    `json:"delivery"`
	Users    int       `json:"users"`              // enrolled
	Unlocked int       `json:"unlocked"`           // of these
	Problem  string    `json:"problem,omitempty"`  // why users could not be counted, or not all of them
	Problems []string  `json:"problems,omitempty"` // sources of sessions that do not answer
	Counters any       `json:"counters,omitempty"` // of the view, for people who look for a fault; not stable

	Recovery RecoveryStatus `json:"recovery"`
}

// Code says what kind of failure an Error is.
type Code string

// The kinds of failure that verbs tell apart.
const (
	CodeBadRequest  Code = "bad-request"  // the request was malformed: user name, password length
	CodeForbidden   Code = "forbidden"    // the caller is not root
	CodeNotEnrolled Code = "not-enrolled" // the user has no identity
	CodeEnrolled    Code = "enrolled"     // the user has one already
	CodeWrongSecret Code = "wrong-secret" // the password opens no slot
	CodeLocked      Code = "locked"       // the user's key is needed
	CodeNoProcess   Code = "no-process"   // there is no such process
	CodeBusy        Code = "busy"         // time ran out, for example while waiting for other derivations
	CodeMemory      Code = "memory"       // no memory could be locked for keys
	CodeBadCode     Code = "bad-code"     // a recovery code was mistyped
	CodeBadKey      Code = "bad-key"      // a recovery key cannot be read, or opens no slot
	CodeNoSlot      Code = "no-slot"      // the user has no such slot
	CodeLastSlot    Code = "last-slot"    // it is the last one that can be used
	CodeFull        Code = "full"         // the user has as many slots as there can be
	CodeRecovery    Code = "recovery"     // the configuration demands recovery keys and names none
	CodeRotating    Code = "rotating"     // a change of keys goes on already
	CodeEnding      Code = "ending"       // the daemon ends
	CodeInternal    Code = "internal"     // anything else
)

// Error is a failure that the daemon reported.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

// Error gives the daemon's message.
func (e *Error) Error() string { return e.Message }

// Limits of the protocol.
const (
	// MaxPassword is the longest password that is accepted, in bytes.
	MaxPassword = 4096
	// MaxKey is the largest file of a recovery key that is accepted, in bytes.
	MaxKey = 16 << 10
	// maxBody is the largest request body in bytes: three passwords and a recovery key in base64, a user name with every
	// byte escaped, and their JSON.
	maxBody = 64 << 10
	// maxAnswer is the largest answer that a client reads, in bytes: "who" at a large site.
	maxAnswer = 64 << 20
	// requestTime is how long a request may take, waiting for other derivations included.
	requestTime = 60 * time.Second
)

// Paths of the protocol. Bodies are a request, answers are an answer.
const (
	pathEnroll = "/v1/enroll"
	pathUnlock = "/v1/unlock"
	pathLock   = "/v1/lock"
	pathUser   = "/v1/user"
	pathWho    = "/v1/who"
	pathDaemon = "/v1/daemon"
)

// request is the body of every request. User is a byte string because user names need not be UTF-8.
type request struct {
	User     []byte `json:"user,omitempty"`
	Password []byte `json:"password,omitempty"`
	Old      []byte `json:"old,omitempty"`  // a password, too
	Code     []byte `json:"code,omitempty"` // a recovery code
	Key      []byte `json:"key,omitempty"`  // a recovery key
	PID      int    `json:"pid,omitempty"`
	Label    string `json:"label,omitempty"`
	Slot     string `json:"slot,omitempty"`
	Force    bool   `json:"force,omitempty"`
	Identity bool   `json:"identity,omitempty"`

	Convert *ConvertRequest `json:"convert,omitempty"`
}

// answer is the body of every answer; one of its fields is set, or none.
type answer struct {
	Error   *Error        `json:"error,omitempty"`
	Changed bool          `json:"changed,omitempty"`
	User    *UserStatus   `json:"user,omitempty"`
	Users   []UserStatus  `json:"users,omitempty"`
	Daemon  *DaemonStatus `json:"daemon,omitempty"`

	Slots     []Slot     `json:"slots,omitempty"`
	Added     *AddedSlot `json:"added,omitempty"`
	Rotation  *Rotation  `json:"rotation,omitempty"`
	Forgotten *Forgotten `json:"forgotten,omitempty"`
	Reloaded  *Reloaded  `json:"reloaded,omitempty"`
	Survey    []Survey   `json:"survey,omitempty"`
	Events    []Event    `json:"events,omitempty"`

	Conversion *Conversion `json:"conversion,omitempty"`
	More       bool        `json:"more,omitempty"` // another answer follows on the next line
}
