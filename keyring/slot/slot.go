// Package slot wraps a user's identity under the secrets that open it: Argon2id hashes of passwords and whatever else
// becomes the seed of a slot (FORMAT.md K3 to K6 and R2). Every slot is a key pair of its own, so that it can be made anew
// for another identity without its secret. The package is pure: no files, no clock, no locks of its own.
package slot

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// WrappedSize is the length in bytes of an identity that is wrapped for a slot with a public half (FORMAT.md K6).
const WrappedSize = SealedSize

const slotLabel = "mailcryptfs slot v1\x00"

var (
	// ErrWrongSecret says that a slot does not open under this seed: another password, user, slot, or a changed slot.
	ErrWrongSecret = errors.New("the secret opens no slot")
	// ErrForeign says that something opened, but holds another identity than the one its record names.
	ErrForeign = errors.New("it holds another identity than the record")
)

// Kind says what kind of secret opens a slot.
type Kind string

const (
	// KindPassword is a slot opened by the Argon2id hash of a password.
	KindPassword Kind = "password"
	// KindCode is a slot opened by a recovery code.
	KindCode Kind = "code"
	// KindRecovery is a slot opened by an age identity; it has no public half here, but a recipient.
	KindRecovery Kind = "recovery"
)

// Known tells whether this program can use slots of the kind.
func (k Kind) Known() bool { return k == KindPassword || k == KindCode || k == KindRecovery }

// ID names a slot within its record: 8 random bytes.
type ID [8]byte

// RandomID returns a new name for a slot.
func RandomID() ID {
	var id ID
	_, _ = rand.Read(id[:]) // never fails
	return id
}

// ParseID reads what String writes: exactly 16 lower-case hex digits.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*len(id) {
		return ID{}, errors.New("a slot id has 16 hex digits")
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil || id.String() != s {
		return ID{}, errors.New("a slot id has 16 lower-case hex digits")
	}
	return id, nil
}

// String returns 16 lower-case hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText is String, for JSON.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is ParseID.
func (id *ID) UnmarshalText(b []byte) error {
	parsed, err := ParseID(string(b))
	if err == nil {
		*id = parsed
	}
	return err
}

// Place is where a slot belongs; a wrapped identity opens at its own place only.
type Place struct {
	User account.User
	Kind Kind
	Slot ID
}

// PasswordSeed derives the seed of a password slot from the Argon2id hash (FORMAT.md K6). The caller wipes it. Errors:
// secret.ErrWiped, secret.ErrMemory.
func PasswordSeed(hash *secret.Key, id ID) (*secret.Key, error) {
	var seed *secret.Key
	err := hash.Use(func(h []byte) error {
		var err error
		secret.Do(func() {
			var b []byte
			if b, err = hkdf.Expand(sha256.New, h, slotLabel+string(id[:]), secret.Size); err == nil {
				seed, err = secret.NewKey(b)
			}
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot derive the seed of a slot: %w", err)
	}
	return seed, nil
}

// PublicOf returns the public half of the slot that the seed opens. The seed stays the caller's. Error: secret.ErrWiped.
func PublicOf(seed *secret.Key) (*Public, error) {
	pair := &Identity{seed: seed}
	if err := pair.setPublic(); err != nil {
		return nil, fmt.Errorf("cannot make the public half of a slot: %w", err)
	}
	return pair.public, nil
}

// Wrap seals the private half of the identity to the public half of a slot, for one place (FORMAT.md K6): 1,168 bytes.
// It takes about 160 µs. Error: secret.ErrWiped.
func Wrap(identity *Identity, to *Public, at Place) ([]byte, error) {
	return identity.SealTo(to, at.Label())
}

// Unwrap opens what Wrap made with the seed of the slot, whose public half the record has, and compares the identity with
// that of the record. Seed and arguments stay the caller's; the caller wipes the identity. Errors: ErrWrongSecret,
// ErrForeign, secret.ErrWiped, secret.ErrMemory.
func Unwrap(wrapped []byte, seed *secret.Key, slotPublic []byte, at Place, public []byte) (*Identity, error) {
	pair := &Identity{seed: seed}
	if err := pair.setPublic(); err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(pair.public.encoded[:], slotPublic) != 1 {
		return nil, ErrWrongSecret
	}
	identity, err := pair.OpenSealed(wrapped, at.Label(), public)
	if errors.Is(err, ErrSealed) {
		return nil, fmt.Errorf("%w: %w", ErrWrongSecret, err)
	}
	return identity, err
}

// Label is what binds a wrapped identity to its place (FORMAT.md K6).
func (at Place) Label() []byte {
	info := make([]byte, 0, len(slotLabel)+len(at.Kind)+1+len(at.User)+1+len(at.Slot))
	info = append(info, slotLabel...)
	info = append(info, at.Kind...)
	info = append(info, 0)
	info = append(info, at.User...)
	info = append(info, 0)
	return append(info, at.Slot[:]...)
}
