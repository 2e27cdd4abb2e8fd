// Package sitesecret brings the site secret from where the configuration says it is: a file, a credential of the systemd
// unit, or somebody who types it from paper. It never comes from an argument or the environment.
package sitesecret

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

// ErrText says that a text is no copy of a site secret.
var ErrText = errors.New("not a site secret")

// unit is the service whose credentials verbs look at; systemd tells only the service itself where they are.
const unit = "mailcryptfs.service"

// CredentialPath returns where the credential of that name lies (systemd.exec(5)): $CREDENTIALS_DIRECTORY for the daemon,
// and where systemd puts those of the unit for a verb that root runs meanwhile.
func CredentialPath(name string) string {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		dir = filepath.Join("/run/credentials", unit)
	}
	return filepath.Join(dir, name)
}

// The paper copy: 8 groups of 8 hexadecimal digits, each followed by 2 that check it.
const (
	groups     = 8
	groupBytes = secret.Size / groups
	groupText  = 2 * (groupBytes + 1)
)

// Paper returns the 32 bytes of a site secret as lines that people can type; the caller wipes the text. The secret stays
// the caller's.
func Paper(s []byte) []byte {
	if len(s) != secret.Size {
		panic("sitesecret: a site secret has 32 bytes")
	}
	var text []byte
	for g := range groups {
		part := s[g*groupBytes:][:groupBytes]
		text = hex.AppendEncode(text, part[:2])
		text = append(text, '-')
		text = hex.AppendEncode(text, part[2:])
		text = append(text, '-')
		text = hex.AppendEncode(text, []byte{check(g, part)})
		if g%2 == 0 {
			text = append(text, "  "...)
		} else {
			text = append(text, '\n')
		}
	}
	return text
}

// check finds a group that was mistyped or is not in its place.
func check(g int, part []byte) byte {
	h := sha256.New()
	h.Write([]byte{'m', 'c', byte(g)})
	h.Write(part)
	return h.Sum(nil)[0]
}

// Parse returns the 32 bytes, which the caller wipes, of a site secret as its file, a QR code or the paper has it. On
// paper, blanks, hyphens and capitals do not matter, O is taken for 0, and I and L for 1. text stays the caller's. Error:
// ErrText, with the group that is wrong.
func Parse(text []byte) ([]byte, error) {
	line := append(bytes.TrimSpace(text), '\n')
	defer secret.Wipe(line)
	if s, err := site.Parse(line); err == nil {
		return s, nil
	}
	digits := make([]byte, 0, len(text))
	defer func() { secret.Wipe(digits[:cap(digits)]) }()
	for _, c := range text {
		switch {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '-':
			continue
		case c == 'O' || c == 'o':
			c = '0'
		case c == 'I' || c == 'i' || c == 'L' || c == 'l':
			c = '1'
		}
		digits = append(digits, c)
	}
	if len(digits) != groups*groupText {
		return nil, fmt.Errorf("%w: %d characters were given, the paper has %d", ErrText, len(digits), groups*groupText)
	}
	s := make([]byte, 0, secret.Size)
	for g := range groups {
		var part [groupBytes + 1]byte
		_, err := hex.Decode(part[:], digits[g*groupText:][:groupText])
		if err != nil || check(g, part[:groupBytes]) != part[groupBytes] {
			secret.Wipe(part[:])
			secret.Wipe(s[:cap(s)])
			return nil, fmt.Errorf("%w: group %d is mistyped", ErrText, g+1)
		}
		s = append(s, part[:groupBytes]...)
		secret.Wipe(part[:])
	}
	return s, nil
}
