package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"sync"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// SIVSize is what sealing adds to a name, in bytes (N2).
const SIVSize = 16

// Label separates the uses of the names keys (N2, N4, N10, X1).
type Label string

// The labels of FORMAT.md; each ends in a zero byte.
const (
	NameLabel    Label = "mailcryptfs name v1\x00"
	LongLabel    Label = "mailcryptfs long name v1\x00"
	SymlinkLabel Label = "mailcryptfs symlink v1\x00"
	XAttrLabel   Label = "mailcryptfs xattr v1\x00"
)

// ErrName says that a sealed name does not open under this site's keys.
var ErrName = errors.New("sealed name does not authenticate")

// Names seals and opens names with the site's keys. It is safe for concurrent
// use and holds its key schedules on the Go heap for as long as it lives.
type Names struct {
	enc  cipher.Block
	macs sync.Pool
}

// NewNames makes a Names from the names MAC key and the names encryption key (K1).
func NewNames(mac, enc *secret.Key) (*Names, error) {
	n := &Names{}
	err := enc.Use(func(b []byte) (err error) {
		n.enc, err = aes.NewCipher(b)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot prepare the key of names: %w", err)
	}
	if err := mac.Use(func([]byte) error { return nil }); err != nil {
		return nil, fmt.Errorf("cannot prepare the MAC key of names: %w", err)
	}
	n.macs.New = func() any {
		m := new(nameMAC)
		// The key outlives every Names: it goes when the daemon ends.
		_ = mac.Use(func(b []byte) error { m.Hash = hmac.New(sha256.New, b); return nil })
		return m
	}
	return n, nil
}

// nameMAC is a MAC, and room to work in.
type nameMAC struct {
	hash.Hash
	in  []byte
	tag [SIVSize]byte
	out [sha256.Size]byte
}

// sum is the MAC of in: a label and a name. It is valid until the next call.
func (m *nameMAC) sum() []byte {
	m.Reset()
	m.Write(m.in)
	return m.Sum(m.out[:0])
}

// Seal appends the sealed form of name under label l to dst: 16 bytes more than
// the name (N2). It is deterministic.
func (n *Names) Seal(dst []byte, l Label, name string) []byte {
	m := n.macs.Get().(*nameMAC)
	defer n.macs.Put(m)
	m.in = append(append(m.in[:0], l...), name...)
	tag := m.sum()[:SIVSize]
	dst = append(dst, tag...)
	at := len(dst)
	dst = append(dst, name...)
	cipher.NewCTR(n.enc, tag).XORKeyStream(dst[at:], dst[at:])
	return dst
}

// Open returns the name that was sealed under label l (N2). The error is ErrName.
func (n *Names) Open(l Label, sealed []byte) (string, error) {
	if len(sealed) <= SIVSize {
		return "", ErrName
	}
	m := n.macs.Get().(*nameMAC)
	defer n.macs.Put(m)
	copy(m.tag[:], sealed)
	m.in = append(append(m.in[:0], l...), sealed[SIVSize:]...)
	name := m.in[len(l):]
	cipher.NewCTR(n.enc, m.tag[:]).XORKeyStream(name, name)
	if subtle.ConstantTimeCompare(m.sum()[:SIVSize], m.tag[:]) != 1 {
		return "", ErrName
	}
	return string(name), nil
}

// Hash returns the 32 bytes that stand for a long name (N4).
func (n *Names) Hash(name string) [sha256.Size]byte {
	m := n.macs.Get().(*nameMAC)
	defer n.macs.Put(m)
	m.in = append(append(m.in[:0], LongLabel...), name...)
	return [sha256.Size]byte(m.sum())
}

// XAttrs seals and opens the values of extended attributes (X1). It is safe for
// concurrent use.
type XAttrs struct{ aead cipher.AEAD }

// NewXAttrs makes an XAttrs from the extended-attribute key (K1).
func NewXAttrs(k *secret.Key) (*XAttrs, error) {
	var x XAttrs
	err := k.Use(func(b []byte) (err error) {
		x.aead, err = newGCM(b)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot prepare the key of extended attributes: %w", err)
	}
	return &x, nil
}

// Overhead is what sealing adds to the value of an extended attribute, in bytes.
const Overhead = format.NonceSize + format.TagSize

// Seal returns the stored value of attribute name.
func (x *XAttrs) Seal(name string, value []byte) []byte {
	out := make([]byte, format.NonceSize, len(value)+Overhead)
	Nonces(out)
	return x.aead.Seal(out, out, value, append([]byte(XAttrLabel), name...))
}

// Open returns the value of attribute name. The error wraps format.ErrCorrupt.
func (x *XAttrs) Open(name string, stored []byte) ([]byte, error) {
	if len(stored) < Overhead {
		return nil, fmt.Errorf("%w: extended attribute is too short", format.ErrCorrupt)
	}
	out, err := x.aead.Open(nil, stored[:format.NonceSize], stored[format.NonceSize:], append([]byte(XAttrLabel), name...))
	if err != nil {
		return nil, fmt.Errorf("%w: extended attribute does not authenticate", format.ErrCorrupt)
	}
	return out, nil
}

// Nonces fills b with fresh random bytes (C13). The operating system's generator
// does not fail; crypto/rand ends the process if it ever does.
func Nonces(b []byte) { _, _ = rand.Read(b) }
