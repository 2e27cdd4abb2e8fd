package records

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// Values of the key "format", which tell the kinds of records apart.
const (
	formatUser     = "mailcryptfs user record"
	formatDelivery = "mailcryptfs delivery key"
	formatStore    = "mailcryptfs store"
)

const (
	version  = 1
	macLabel = "mailcryptfs record v1\x00"
	// macLine is the length of the first line in bytes, its newline included.
	macLine = len(`mac = ""`) + 2*sha256.Size + 1
)

// headerLines are the first three lines of every record of every version (FORMAT.md K9).
var headerLines = regexp.MustCompile(`\Amac = "([0-9a-f]{64})"\nformat = "([a-z ]{1,64})"\nversion = (0|[1-9][0-9]{0,8})\n`)

// open judges what precedes the content of a record, in the order of FORMAT.md K9: size, first three lines, version,
// MAC. Afterwards the bytes are authentic, and what is wrong with them was written by one of us.
func open(b []byte, format string, limit int, mac *secret.Key) error {
	if len(b) > limit {
		return corrupt("it has more than %d bytes", limit)
	}
	m := headerLines.FindSubmatch(b)
	if m == nil {
		return corrupt("the first three lines are not mac, format and version")
	}
	if v, err := strconv.Atoi(string(m[3])); err != nil || v != version {
		return fmt.Errorf("%w: version %s, this program knows version %d", ErrUnsupported, m[3], version)
	}
	var sum [sha256.Size]byte
	// The pattern has made sure of 64 hex digits.
	if _, err := hex.Decode(sum[:], m[1]); err != nil {
		return corrupt("the MAC is not hex")
	}
	want, err := authenticate(string(m[2]), b[macLine:], mac)
	if err != nil {
		return err
	}
	if !hmac.Equal(sum[:], want) {
		return fmt.Errorf("%w: %w", ErrCorrupt, ErrMAC)
	}
	if string(m[2]) != format {
		return corrupt("it is a %q, not a %q", m[2], format)
	}
	return nil
}

// seal puts the MAC line before body, which begins with the line of the format.
func seal(body []byte, format string, limit int, mac *secret.Key) ([]byte, error) {
	sum, err := authenticate(format, body, mac)
	if err != nil {
		return nil, err
	}
	b := fmt.Appendf(make([]byte, 0, macLine+len(body)), "mac = \"%x\"\n", sum)
	b = append(b, body...)
	if len(b) > limit {
		return nil, fmt.Errorf("the record has %d bytes, at most %d are allowed", len(b), limit)
	}
	return b, nil
}

// authenticate computes the MAC of everything after the first line (FORMAT.md K9).
func authenticate(format string, body []byte, mac *secret.Key) ([]byte, error) {
	var sum []byte
	err := mac.Use(func(key []byte) error {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(macLabel))
		m.Write([]byte(format))
		m.Write([]byte{0})
		m.Write(body)
		sum = m.Sum(nil)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot authenticate a key record: %w", err)
	}
	return sum, nil
}

// beginBody returns the second and third line.
func beginBody(format string) *bytes.Buffer {
	var b bytes.Buffer
	fmt.Fprintf(&b, "format = %q\nversion = %d\n", format, version)
	return &b
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}
