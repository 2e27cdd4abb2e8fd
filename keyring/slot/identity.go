package slot

import (
	"bytes"
	"crypto/hpke"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// Sizes of FORMAT.md K3 in bytes.
const (
	PublicSize = 1216 // the public half of an identity
	SealedSize = 1168 // 32 bytes sealed to an identity or to a slot
)

// Labels begin the HPKE info of what is sealed (FORMAT.md K4, K16).
const (
	contentKeyLabel = "mailcryptfs content key v1\x00"
	previousLabel   = "mailcryptfs identity v1\x00"
)

// ErrSealed says that something sealed does not open with this identity, for this user, at this place.
var ErrSealed = errors.New("sealed key does not open")

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
	sealed, err := p.seal(ck.Key, contentKeyInfo(u, ck.ID))
	if err != nil {
		return nil, fmt.Errorf("cannot seal a content key: %w", err)
	}
	return sealed, nil
}

// seal seals 32 bytes (FORMAT.md K3).
func (p *Public) seal(key *secret.Key, info []byte) ([]byte, error) {
	var sealed []byte
	err := key.Use(func(b []byte) error {
		var err error
		secret.Do(func() {
			sealed, err = hpke.Seal(p.key, hpke.HKDFSHA256(), hpke.AES256GCM(), info, b)
		})
		return err
	})
	return bytes.Clone(sealed), err
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

// FromSeed makes an identity of its private half, 32 bytes, which it wipes, and compares its public half with that of
// the record. Whoever made it wipes it. Errors: ErrForeign, secret.ErrMemory. Another length of seed panics.
func FromSeed(seed, public []byte) (*Identity, error) {
	k, err := secret.NewKey(seed)
	if err != nil {
		return nil, err
	}
	id, err := fromSeed(k)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(id.public.encoded[:], public) != 1 {
		id.Wipe()
		return nil, ErrForeign
	}
	return id, nil
}

// fromSeed takes over seed and wipes it when it fails.
func fromSeed(seed *secret.Key) (*Identity, error) {
	id := &Identity{seed: seed}
	if err := id.setPublic(); err != nil {
		seed.Wipe()
		return nil, err
	}
	return id, nil
}

func (id *Identity) setPublic() error {
	return id.expand(func(k hpke.PrivateKey) error {
		id.public = newPublic(k.PublicKey())
		return nil
	})
}

// Clone returns a second identity of the same key pair, which the caller wipes. Errors: secret.ErrWiped,
// secret.ErrMemory.
func (id *Identity) Clone() (*Identity, error) {
	var seed *secret.Key
	err := id.seed.Use(func(b []byte) error {
		var err error
		seed, err = secret.NewKey(bytes.Clone(b))
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Identity{seed: seed, public: id.public}, nil
}

// Use calls f with the private half, 32 bytes, valid only until f returns and not to be kept: for what seals it by other
// means than HPKE. Error: secret.ErrWiped, or that of f.
func (id *Identity) Use(f func(seed []byte) error) error { return id.seed.Use(f) }

// Public returns the public half, which stays valid after Wipe.
func (id *Identity) Public() *Public { return id.public }

// Open opens a content key that was sealed for the user under keyID. It takes about 130 µs. The caller wipes the
// result. Errors: ErrSealed, secret.ErrWiped, secret.ErrMemory.
func (id *Identity) Open(u account.User, keyID secret.ID, sealed []byte) (*secret.Key, error) {
	return id.open(sealed, contentKeyInfo(u, keyID))
}

func (id *Identity) open(sealed, info []byte) (*secret.Key, error) {
	if len(sealed) != SealedSize {
		return nil, fmt.Errorf("%w: it has %d bytes, not %d", ErrSealed, len(sealed), SealedSize)
	}
	var key *secret.Key
	err := id.expand(func(k hpke.PrivateKey) error {
		plain, err := hpke.Open(k, hpke.HKDFSHA256(), hpke.AES256GCM(), info, sealed)
		if err != nil || len(plain) != secret.Size {
			return ErrSealed
		}
		key, err = secret.NewKey(plain)
		return err
	})
	return key, err
}

// SealTo seals the private half to somebody else's public half: 1,168 bytes that open under the same info only. Callers
// begin info with a label of their own. Error: secret.ErrWiped.
func (id *Identity) SealTo(to *Public, info []byte) ([]byte, error) {
	sealed, err := to.seal(id.seed, info)
	if err != nil {
		return nil, fmt.Errorf("cannot wrap an identity: %w", err)
	}
	return sealed, nil
}

// OpenSealed opens what SealTo sealed to id, and compares it with the public half that it should have. The caller wipes
// the result. Errors: ErrSealed, ErrForeign, secret.ErrWiped, secret.ErrMemory.
func (id *Identity) OpenSealed(sealed, info, public []byte) (*Identity, error) {
	seed, err := id.open(sealed, info)
	if err != nil {
		return nil, err
	}
	other, err := fromSeed(seed)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(other.public.encoded[:], public) != 1 {
		other.Wipe()
		return nil, ErrForeign
	}
	return other, nil
}

// SealPrevious seals a replaced identity of the user to the one that replaces it (FORMAT.md K16). Error:
// secret.ErrWiped.
func (p *Public) SealPrevious(u account.User, old *Identity) ([]byte, error) {
	return old.SealTo(p, previousInfo(u, old.public.encoded[:]))
}

// OpenPrevious opens what SealPrevious sealed; public is the public half of the old identity. Errors as OpenSealed.
func (id *Identity) OpenPrevious(u account.User, sealed, public []byte) (*Identity, error) {
	return id.OpenSealed(sealed, previousInfo(u, public), public)
}

// Wipe zeroes the private half. Of nil there is none.
func (id *Identity) Wipe() {
	if id != nil {
		id.seed.Wipe()
	}
}

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

func previousInfo(u account.User, public []byte) []byte {
	return slices.Concat([]byte(previousLabel), []byte(u), []byte{0}, public)
}
