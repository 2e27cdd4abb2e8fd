// Package account knows user names: which are allowed, and how they are written as the name of a file (FORMAT.md K8).
package account

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Limits of FORMAT.md K8, in bytes.
const (
	maxName    = 1024
	maxEscaped = 200
)

// hashedPrefix begins the escaped form of names that are too long to be escaped readably. No other escaped name begins
// like this, because h is not a hex digit.
const hashedPrefix = "%h"

var (
	// ErrName says that a user name is not allowed.
	ErrName = errors.New("not a valid user name")
	// ErrEscaped says that a file name is not the escaped form of any user name.
	ErrEscaped = errors.New("not an escaped user name")
	// ErrHashed says that a file name is the hash of a long user name, which only the user's record can tell.
	ErrHashed = errors.New("the file name is the hash of a long user name")
)

// User is the name of a mail account, as the mail server writes it. It is a byte string: no normalisation takes place.
// Values come from Parse or Unescape.
type User string

// Parse checks a user name against FORMAT.md K8: 1 to 1,024 bytes, no zero byte, no newline, and no component between
// slashes that is empty, "." or "..". The error wraps ErrName.
func Parse(name string) (User, error) {
	switch {
	case name == "":
		return "", fmt.Errorf("%w: it is empty", ErrName)
	case len(name) > maxName:
		return "", fmt.Errorf("%w: it has %d bytes, at most %d are allowed", ErrName, len(name), maxName)
	case strings.ContainsAny(name, "\x00\n"):
		return "", fmt.Errorf("%w: it contains a zero byte or a newline", ErrName)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return "", fmt.Errorf("%w: a part between slashes is %q", ErrName, part)
		}
	}
	return User(name), nil
}

// Escape returns the file name that stands for the user under users/ and in the keyring directory (FORMAT.md K8): at
// most 200 bytes, no slash, no leading dot; different for different users.
func (u User) Escape() string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(u) {
		c := u[i]
		if standsForItself(c) && (c != '.' || i > 0) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&15])
	}
	if b.Len() > maxEscaped {
		sum := sha256.Sum256([]byte(u))
		return hashedPrefix + hex.EncodeToString(sum[:])
	}
	return b.String()
}

// Unescape returns the user whose Escape is s. It refuses everything that Escape would not have written: ErrHashed for
// a well-formed hash, otherwise ErrEscaped.
func Unescape(s string) (User, error) {
	if isHashed(s) {
		return "", ErrHashed
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", ErrEscaped
		}
		c, err := hex.DecodeString(s[i+1 : i+3])
		if err != nil {
			return "", ErrEscaped
		}
		b.WriteByte(c[0])
		i += 2
	}
	u, err := Parse(b.String())
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrEscaped, err)
	}
	if u.Escape() != s {
		return "", ErrEscaped
	}
	return u, nil
}

func isHashed(s string) bool {
	digits, found := strings.CutPrefix(s, hashedPrefix)
	if !found || len(digits) != 2*sha256.Size {
		return false
	}
	b, err := hex.DecodeString(digits)
	return err == nil && hex.EncodeToString(b) == digits
}

func standsForItself(c byte) bool {
	switch {
	case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		return true
	}
	return strings.IndexByte("._-@+=", c) >= 0
}
