// Package records reads and writes the key records of a store: who is enrolled, with which slots and content keys, and
// the delivery keys of locked users (FORMAT.md K7 to K19, K23). Parsing is apart from files: header.go, user.go and
// delivery.go work on bytes; dir.go and what it uses work on a directory tree that others may be able to write to.
package records

import (
	"errors"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

var (
	// ErrCorrupt says that no correct writer wrote this record, or that it was damaged since.
	ErrCorrupt = errors.New("damaged key record")
	// ErrMAC says that the record does not authenticate: it was changed, or belongs to another site secret. Errors that
	// wrap it wrap ErrCorrupt also.
	ErrMAC = errors.New("it does not authenticate under the site secret")
	// ErrUnsupported says that the record has a version that this program does not know; it is never called damaged.
	ErrUnsupported = errors.New("key record of an unsupported version")
	// ErrNotFound says that there is no such record.
	ErrNotFound = errors.New("no such key record")
	// ErrExists says that there is such a record already.
	ErrExists = errors.New("key record exists already")
)

// MaxSlots is how many slots a user may have (FORMAT.md K10).
const MaxSlots = 64

// Limits of FORMAT.md K10 and K11.
const (
	maxUserSize     = 1 << 20 // bytes
	maxDeliverySize = 8 << 10 // bytes
	maxStoreSize    = 8 << 10 // bytes
	maxContentKeys  = 1024
	maxIdentities   = 16
	maxLabel        = 128     // bytes
	maxKind         = 64      // bytes
	maxRecipient    = 4096    // bytes
	maxSealedFile   = 8 << 10 // bytes of a slot that is an age file
)

// UserSaltSize is the length of the salt in a user's record, in bytes.
const UserSaltSize = 16

// Store is the store record (FORMAT.md K12).
type Store struct {
	ID      [16]byte
	Created time.Time
}

// User is a user's record (FORMAT.md K10). Nothing in it is secret; everything is authentic.
type User struct {
	User        account.User
	Serial      int64 // one more at each change; Dir counts it
	Created     time.Time
	Salt        [UserSaltSize]byte
	Public      [slot.PublicSize]byte
	Rotation    *Rotation // nil: none is under way
	Slots       []Slot
	ContentKeys []ContentKey
	Identities  []PreviousIdentity // that were replaced since the rotation began
}

// Rotation says that old keys wait to be destroyed (FORMAT.md K17).
type Rotation struct {
	Started  time.Time // to the second; delivery keys that are not younger are old too
	By       string    // who asked for it, at most 128 bytes
	Identity bool      // the identity is to be replaced, or was
	Pending  bool      // it will be at the next unlock
}

// PreviousIdentity is an identity that was replaced, sealed to the one of the record (FORMAT.md K16).
type PreviousIdentity struct {
	Public   [slot.PublicSize]byte
	Replaced time.Time
	Sealed   []byte
}

// Slot is one way to open a user's identity.
type Slot struct {
	ID        slot.ID
	Kind      slot.Kind
	Label     string // what people call it, at most 128 bytes
	Created   time.Time
	CreatedBy string // who made it, at most 128 bytes
	Public    []byte // of the slot; nil for kind recovery
	Recipient string // an age recipient, for kind recovery only
	Wrapped   []byte // the identity, wrapped (K6)
	Params    slot.Params

	// unknown holds all keys of a slot whose kind this program does not know; the other fields but ID and Kind are not
	// used then, and the slot is written as it was read.
	unknown map[string]any
}

// Known tells whether the slot is of a kind that this program can use. Others are kept and never used.
func (s *Slot) Known() bool { return s.unknown == nil }

// State says what a content key is for.
type State string

const (
	// Current is the one content key that new content is sealed under.
	Current State = "current"
	// Old is a content key that content may still be sealed under.
	Old State = "old"
)

// ContentKey is a content key sealed to the user's identity (FORMAT.md K4).
type ContentKey struct {
	ID      secret.ID
	Created time.Time
	State   State
	Sealed  []byte
}

// Current returns the content key that new content is sealed under. A record that was parsed has exactly one.
func (u *User) Current() *ContentKey {
	for i := range u.ContentKeys {
		if u.ContentKeys[i].State == Current {
			return &u.ContentKeys[i]
		}
	}
	return nil
}

// ContentKey returns the content key of that name, or nil.
func (u *User) ContentKey(id secret.ID) *ContentKey {
	for i := range u.ContentKeys {
		if u.ContentKeys[i].ID == id {
			return &u.ContentKeys[i]
		}
	}
	return nil
}

// Delivery is a delivery key sealed to the user's identity (FORMAT.md K11).
type Delivery struct {
	User    account.User
	ID      secret.ID
	Created time.Time
	Sealed  []byte
}
