// Package slot wraps a user's identity under the secrets that open it: Argon2id hashes of passwords and whatever else
// becomes a key-encryption key (FORMAT.md K3 to K6 and R2). It is pure: no files, no clock, no locks of its own.
package slot

import (
	"crypto/aes"
	"crypto/cipher"
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

// WrappedSize is the length of a wrapped identity in bytes: nonce, ciphertext, tag (FORMAT.md K6).
const WrappedSize = nonceSize + secret.Size + tagSize

const (
	nonceSize = 12
	tagSize   = 16
	slotLabel = "mailcryptfs slot v1\x00"
)

var (
	// ErrWrongSecret says that a slot does not open under this key: another password, user, slot, or a changed slot.
	ErrWrongSecret = errors.New("the secret opens no slot")
	// ErrForeign says that a slot opened, but holds another identity than the one its record names.
	ErrForeign = errors.New("the slot holds another identity than the record")
)

// Kind says what kind of secret opens a slot.
type Kind string

// KindPassword is a slot opened by the Argon2id hash of a password.
const KindPassword Kind = "password"

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

// Place is where a slot belongs; a wrapped identity opens at its own place only.
type Place struct {
	User account.User
	Kind Kind
	Slot ID
}

// PasswordKEK derives the key-encryption key of a password slot from the Argon2id hash (FORMAT.md K6). The caller wipes
// it. Errors: secret.ErrWiped, secret.ErrMemory.
func PasswordKEK(hash *secret.Key, id ID) (*secret.Key, error) {
	var kek *secret.Key
	err := hash.Use(func(h []byte) error {
		var err error
		secret.Do(func() {
			var b []byte
			if b, err = hkdf.Expand(sha256.New, h, slotLabel+string(id[:]), secret.Size); err == nil {
				kek, err = secret.NewKey(b)
			}
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot derive the key of a slot: %w", err)
	}
	return kek, nil
}

// Wrap encrypts the private half of the identity under kek for one place (FORMAT.md K6): 60 bytes. Error:
// secret.ErrWiped.
func Wrap(identity *Identity, kek *secret.Key, at Place) ([]byte, error) {
	wrapped := make([]byte, nonceSize, WrappedSize)
	_, _ = rand.Read(wrapped) // never fails
	err := withGCM(kek, func(gcm cipher.AEAD) error {
		return identity.seed.Use(func(seed []byte) error {
			wrapped = gcm.Seal(wrapped, wrapped, seed, at.label())
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("cannot wrap an identity: %w", err)
	}
	return wrapped, nil
}

// Unwrap opens what Wrap made and compares the public half with that of the record. The caller wipes the identity.
// Errors: ErrWrongSecret, ErrForeign, secret.ErrWiped, secret.ErrMemory.
func Unwrap(wrapped []byte, kek *secret.Key, at Place, public []byte) (*Identity, error) {
	if len(wrapped) != WrappedSize {
		return nil, fmt.Errorf("%w: it has %d bytes, not %d", ErrWrongSecret, len(wrapped), WrappedSize)
	}
	var seed *secret.Key
	err := withGCM(kek, func(gcm cipher.AEAD) error {
		plain, err := gcm.Open(nil, wrapped[:nonceSize], wrapped[nonceSize:], at.label())
		if err != nil {
			return ErrWrongSecret
		}
		seed, err = secret.NewKey(plain)
		return err
	})
	if err != nil {
		return nil, err
	}
	identity, err := fromSeed(seed)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(identity.public.encoded[:], public) != 1 {
		identity.Wipe()
		return nil, ErrForeign
	}
	return identity, nil
}

// label is the associated data of a wrapped identity.
func (at Place) label() []byte {
	ad := make([]byte, 0, len(slotLabel)+len(at.Kind)+1+len(at.User)+1+len(at.Slot))
	ad = append(ad, slotLabel...)
	ad = append(ad, at.Kind...)
	ad = append(ad, 0)
	ad = append(ad, at.User...)
	ad = append(ad, 0)
	return append(ad, at.Slot[:]...)
}

func withGCM(key *secret.Key, f func(cipher.AEAD) error) error {
	return key.Use(func(b []byte) error {
		var err error
		secret.Do(func() {
			var block cipher.Block
			if block, err = aes.NewCipher(b); err != nil {
				return
			}
			var gcm cipher.AEAD
			if gcm, err = cipher.NewGCM(block); err == nil {
				err = f(gcm)
			}
		})
		return err
	})
}
