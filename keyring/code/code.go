// Package code makes and reads recovery codes: 160 random bits that people write down and type again (FORMAT.md K20). It
// is pure: no files, no terminal.
package code

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// Layout of a code: eight groups of four characters and a check character.
const (
	Bits      = 160
	groups    = 8
	groupData = 4
	symbols   = groups * groupData
	size      = Bits / 8 // bytes
	// TextSize is the length of Text in bytes.
	TextSize = groups*(groupData+1) + groups - 1
)

// Labels of FORMAT.md K20.
const (
	extractSalt = "mailcryptfs recovery code v1"
	slotLabel   = "mailcryptfs code slot v1\x00"
)

// ErrCode says that a text is not a recovery code; the error names the group that is mistyped, if one can be told.
var ErrCode = errors.New("not a recovery code")

// alphabet is that of Crockford's base32: no I, L, O and U.
const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// Code is a recovery code in locked memory. Whoever made it wipes it. Safe for concurrent use.
type Code struct {
	// key holds the 20 bytes and twelve zeros.
	key *secret.Key
}

// Generate makes a new code. Error: secret.ErrMemory.
func Generate() (Code, error) {
	b := make([]byte, secret.Size)
	_, _ = rand.Read(b[:size]) // never fails
	key, err := secret.NewKey(b)
	return Code{key}, err
}

// Parse reads a code as people type it: case, spaces and punctuation between characters do not matter, O is 0, and I and L
// are 1. text stays the caller's to wipe. Errors: ErrCode, secret.ErrMemory.
func Parse(text []byte) (Code, error) {
	values := make([]byte, 0, groups*(groupData+1))
	defer func() { secret.Wipe(values[:cap(values)]) }()
	for _, c := range text {
		if separates(c) {
			continue
		}
		if len(values) == cap(values) {
			return Code{}, fmt.Errorf("%w: it has more than %d characters", ErrCode, cap(values))
		}
		v, ok := value(c)
		if !ok {
			return Code{}, fmt.Errorf("%w: group %d has a character that no code has", ErrCode, len(values)/(groupData+1)+1)
		}
		values = append(values, v)
	}
	if len(values) < cap(values) {
		return Code{}, fmt.Errorf("%w: it has %d characters, not %d", ErrCode, len(values), cap(values))
	}
	data := make([]byte, 0, symbols)
	defer func() { secret.Wipe(data[:cap(data)]) }()
	for g := range groups {
		group := values[g*(groupData+1):][:groupData+1]
		if check(g, group[:groupData]) != group[groupData] {
			return Code{}, fmt.Errorf("%w: group %d is mistyped", ErrCode, g+1)
		}
		data = append(data, group[:groupData]...)
	}
	key, err := secret.NewKey(pack(data))
	return Code{key}, err
}

// Text returns the code as it is printed: eight groups of five characters with hyphens between them. The caller wipes
// it. Error: secret.ErrWiped.
func (c Code) Text() ([]byte, error) {
	text := make([]byte, 0, TextSize)
	err := c.key.Use(func(b []byte) error {
		data := unpack(b[:size])
		defer secret.Wipe(data)
		for g := range groups {
			if g > 0 {
				text = append(text, '-')
			}
			group := data[g*groupData:][:groupData]
			for _, v := range group {
				text = append(text, alphabet[v])
			}
			text = append(text, alphabet[check(g, group)])
		}
		return nil
	})
	return text, err
}

// Seed derives the seed of the slot that the code opens (FORMAT.md K20). The caller wipes it. Errors: secret.ErrWiped,
// secret.ErrMemory.
func (c Code) Seed(at slot.Place) (*secret.Key, error) {
	var seed *secret.Key
	err := c.key.Use(func(b []byte) error {
		prk, err := hkdf.Extract(sha256.New, b[:size], []byte(extractSalt))
		if err != nil {
			return err
		}
		defer secret.Wipe(prk)
		out, err := hkdf.Expand(sha256.New, prk, slotLabel+string(at.User)+"\x00"+string(at.Slot[:]), secret.Size)
		if err != nil {
			return err
		}
		seed, err = secret.NewKey(out)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot derive the seed of a recovery code: %w", err)
	}
	return seed, nil
}

// Wipe zeroes the code. The zero Code is wiped.
func (c Code) Wipe() {
	if c.key != nil {
		c.key.Wipe()
	}
}

// separates tells whether a character is passed over.
func separates(c byte) bool {
	switch c {
	case ' ', '\t', '\r', '\n', '-', '_', '.', ',', ':', '/':
		return true
	}
	return false
}

// value returns what a character stands for, look-alikes included. It does not look into a table: memory access does not
// depend on the code.
func value(c byte) (byte, bool) {
	if c >= 'a' && c <= 'z' {
		c -= 'a' - 'A'
	}
	switch c {
	case 'O':
		c = '0'
	case 'I', 'L':
		c = '1'
	}
	for v := range byte(len(alphabet)) {
		if alphabet[v] == c {
			return v, true
		}
	}
	return 0, false
}

// check is a sum over GF(32) in which every place of a group has a weight of its own, and every group a start of its own:
// one wrong character, two that changed places, and two groups that changed places do not go unnoticed.
func check(group int, data []byte) byte {
	sum, weight := byte(group), byte(1)
	for _, v := range data {
		weight = double(weight)
		sum ^= multiply(v, weight)
	}
	return sum
}

// double multiplies by x in GF(32) modulo x^5 + x^2 + 1.
func double(a byte) byte {
	a <<= 1
	if a&32 != 0 {
		a ^= 0b100101
	}
	return a
}

func multiply(a, b byte) byte {
	var p byte
	for ; b != 0; b >>= 1 {
		if b&1 != 0 {
			p ^= a
		}
		a = double(a)
	}
	return p
}

// unpack splits 20 bytes into 32 values of five bits, the highest first.
func unpack(b []byte) []byte {
	values := make([]byte, symbols)
	for i := range values {
		bit := i * 5
		window := uint16(b[bit/8]) << 8
		if bit/8+1 < len(b) {
			window |= uint16(b[bit/8+1])
		}
		values[i] = byte(window>>(11-bit%8)) & 31
	}
	return values
}

// pack joins what unpack split, and adds twelve zeros.
func pack(values []byte) []byte {
	b := make([]byte, secret.Size)
	for i, v := range values {
		bit := i * 5
		window := uint16(v) << (11 - bit%8)
		b[bit/8] |= byte(window >> 8)
		if bit/8+1 < size {
			b[bit/8+1] |= byte(window)
		}
	}
	return b
}
