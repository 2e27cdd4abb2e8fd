package slot

import (
	"bytes"
	"crypto/hpke"
	"errors"
	"fmt"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// Sizes of FORMAT.md K3 in bytes.
const (
	PublicSize = 1216 // the public half of an identity
	SealedSize = 1168 // a content key sealed to an identity
)

// contentKeyLabel begins the HPKE info of sealed content keys (FORMAT.md K4).
const contentKeyLabel = "mailcryptfs content key v1\x00"

// ErrSealed says that a sealed content key does not open with this identity, for this user, under this id.
var ErrSealed = errors.New("sealed content key does not open")

// Public is the public half of a user's identity: whoever has it can seal to the user. Safe for concurrent use.
type Public struct {
	key     hpke.PublicKey
	encoded [PublicSize]byte
}

// ParsePublic reads the public half of an identity, 1,216 bytes.
func ParsePublic(b []byte) (*Public, error) {
	if len(b) != PublicSize {
		return nil, fmt.Errorf("the public half of an identity has %d bytes, not %d", PublicSize, len(b))
	}
	key, err := hpke.MLKEM768X25519().NewPublicKey(b)
	if err != nil {
		return nil, fmt.Errorf("the public half of an identity is invalid: %w", err)
	}
	return newPublic(key), nil
}

func newPublic(key hpke.PublicKey) *Public {
	p := &Public{key: key}
	copy(p.encoded[:], key.Bytes())
	return p
}

// Bytes returns a copy of the 1,216 bytes that ParsePublic reads.
func (p *Public) Bytes() []byte { return bytes.Clone(p.encoded[:]) }

// Seal seals the content key to the identity (FORMAT.md K4): 1,168 bytes that only the identity opens, and only for the
// same user and id. It takes about 160 µs. Error: secret.ErrWiped.
func (p *Public) Seal(u account.User, ck secret.ContentKey) ([]byte, error) {
	var sealed []byte
	err := ck.Key.Use(func(key []byte) error {
		var err error
		secret.Do(func() {
			sealed, err = hpke.Seal(p.key, hpke.HKDFSHA256(), hpke.AES256GCM(), contentKeyInfo(u, ck.ID), key)
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot seal a content key: %w", err)
	}
	return bytes.Clone(sealed), nil
}

// Identity is a user's key pair. The private half is a 32-byte seed in locked memory; it is expanded for each use.
// Safe for concurrent use.
type Identity struct {
	seed   *secret.Key
	public *Public
}

// NewIdentity makes a new key pair. Whoever made it wipes it. Error: secret.ErrMemory.
func NewIdentity() (*Identity, error) {
	seed, err := secret.RandomKey()
	if err != nil {
		return nil, err
	}
	return fromSeed(seed)
}

// fromSeed takes over seed and wipes it when it fails.
func fromSeed(seed *secret.Key) (*Identity, error) {
	id := &Identity{seed: seed}
	err := id.expand(func(k hpke.PrivateKey) error {
		id.public = newPublic(k.PublicKey())
		return nil
	})
	if err != nil {
		seed.Wipe()
		return nil, err
	}
	return id, nil
}

// Public returns the public half, which stays valid after Wipe.
func (id *Identity) Public() *Public { return id.public }

// Open opens a content key that was sealed for the user under keyID. It takes about 130 µs. The caller wipes the
// result. Errors: ErrSealed, secret.ErrWiped, secret.ErrMemory.
func (id *Identity) Open(u account.User, keyID secret.ID, sealed []byte) (*secret.Key, error) {
	if len(sealed) != SealedSize {
		return nil, fmt.Errorf("%w: it has %d bytes, not %d", ErrSealed, len(sealed), SealedSize)
	}
	var key *secret.Key
	err := id.expand(func(k hpke.PrivateKey) error {
		plain, err := hpke.Open(k, hpke.HKDFSHA256(), hpke.AES256GCM(), contentKeyInfo(u, keyID), sealed)
		if err != nil || len(plain) != secret.Size {
			return ErrSealed
		}
		key, err = secret.NewKey(plain)
		return err
	})
	return key, err
}

// Wipe zeroes the private half.
func (id *Identity) Wipe() { id.seed.Wipe() }

// expand calls f with the expanded private half. The library keeps its own copy of the seed and hands out that very
// copy: so it can be wiped here. The expanded ML-KEM and X25519 keys cannot; secret.Do erases them where it can.
func (id *Identity) expand(f func(hpke.PrivateKey) error) error {
	return id.seed.Use(func(seed []byte) error {
		var err error
		secret.Do(func() {
			var k hpke.PrivateKey
			if k, err = hpke.MLKEM768X25519().NewPrivateKey(seed); err != nil {
				return
			}
			if inner, innerErr := k.Bytes(); innerErr == nil {
				defer secret.Wipe(inner)
			}
			err = f(k)
		})
		return err
	})
}

func contentKeyInfo(u account.User, id secret.ID) []byte {
	info := make([]byte, 0, len(contentKeyLabel)+len(u)+1+len(id))
	info = append(info, contentKeyLabel...)
	info = append(info, u...)
	info = append(info, 0)
	return append(info, id[:]...)
}
