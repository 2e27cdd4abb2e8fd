// Package recovery lets somebody who is not the user back in: slots that an age identity opens (filippo.io/age), requests
// that go to a key on an offline machine and come back answered, shares of a key for several custodians, and the escrow
// of the site secret (FORMAT.md K6, K21 to K23). The private half of a recovery key never needs to be on the server.
//
// age keeps private keys in Go strings: they cannot be wiped, and so an identity should live no longer than the process
// of one verb.
package recovery

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

var (
	// ErrRecipient says that a text is not an age recipient of a kind that is supported.
	ErrRecipient = errors.New("not an age recipient (age1… or age1pq1…)")
	// ErrIdentities says that a file holds no age identities.
	ErrIdentities = errors.New("not a file of age identities (AGE-SECRET-KEY-…)")
	// ErrNoMatch says that none of the recovery keys opens it.
	ErrNoMatch = errors.New("the recovery key does not open it")
)

// maxIdentities is the size of the largest identity file that is read, in bytes.
const maxIdentities = 64 << 10

// Recipient is the public half of a recovery key. Recipients are compared with ==.
type Recipient struct{ text string }

// ParseRecipient reads an age recipient: X25519 (age1…) or hybrid post-quantum (age1pq1…). Error: ErrRecipient.
func ParseRecipient(s string) (Recipient, error) {
	s = strings.TrimSpace(s)
	r := Recipient{s}
	if _, err := r.age(); err != nil {
		return Recipient{}, fmt.Errorf("%w: %w", ErrRecipient, err)
	}
	return r, nil
}

// String returns the text that ParseRecipient reads.
func (r Recipient) String() string { return r.text }

// Short returns the recipient, cut so that people can tell it from others.
func (r Recipient) Short() string {
	const keep = 16
	if len(r.text) <= 2*keep {
		return r.text
	}
	return r.text[:keep] + "…" + r.text[len(r.text)-keep/2:]
}

// Hybrid tells whether the recipient withstands quantum computers.
func (r Recipient) Hybrid() bool { return strings.HasPrefix(r.text, "age1pq1") }

func (r Recipient) age() (age.Recipient, error) {
	if r.Hybrid() {
		return age.ParseHybridRecipient(r.text)
	}
	return age.ParseX25519Recipient(r.text)
}

// Generate writes a new identity file as age-keygen does, the recipient in a comment, and returns the recipient. The
// private half goes to w and nowhere else.
func Generate(w io.Writer, hybrid bool) (Recipient, error) {
	var public, private string
	if hybrid {
		id, err := age.GenerateHybridIdentity()
		if err != nil {
			return Recipient{}, fmt.Errorf("cannot make a recovery key: %w", err)
		}
		public, private = id.Recipient().String(), id.String()
	} else {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			return Recipient{}, fmt.Errorf("cannot make a recovery key: %w", err)
		}
		public, private = id.Recipient().String(), id.String()
	}
	b := fmt.Appendf(nil, "# public key: %s\n%s\n", public, private)
	defer secret.Wipe(b)
	if _, err := w.Write(b); err != nil {
		return Recipient{}, fmt.Errorf("cannot write a recovery key: %w", err)
	}
	return Recipient{public}, nil
}

// ReadIdentities reads an identity file of at most 64 KiB: one AGE-SECRET-KEY-… per line, comments and empty lines passed
// over. Error: ErrIdentities, which never quotes the file.
func ReadIdentities(r io.Reader) ([]age.Identity, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxIdentities+1))
	defer func() { secret.Wipe(b[:cap(b)]) }()
	if err != nil {
		return nil, fmt.Errorf("cannot read a recovery key: %w", err)
	}
	if len(b) > maxIdentities {
		return nil, fmt.Errorf("%w: it is larger than 64 KiB", ErrIdentities)
	}
	ids, err := age.ParseIdentities(bytes.NewReader(b))
	if err != nil {
		// The library quotes what it cannot read.
		return nil, fmt.Errorf("%w: %s", ErrIdentities, hint(b))
	}
	return ids, nil
}

// hint says what a file is instead, without quoting it.
func hint(b []byte) string {
	lines := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		switch {
		case len(line) == 0 || line[0] == '#':
			continue
		case bytes.HasPrefix(line, []byte("age1")):
			return "it holds a recipient, the public half; the private half begins with AGE-SECRET-KEY-"
		case bytes.HasPrefix(line, []byte("age-encryption.org/")) || bytes.HasPrefix(line, []byte("-----BEGIN AGE")):
			return "it is encrypted; decrypt it with age first"
		case bytes.HasPrefix(line, []byte("AGE-PLUGIN-")):
			return "it needs an age plugin; use a request file where the plugin is (mailcryptfs recover --request)"
		case bytes.HasPrefix(line, []byte("AGE-SECRET-KEY-")):
			if _, err := age.ParseIdentities(bytes.NewReader(line)); err == nil {
				continue
			}
			return fmt.Sprintf("the key in line %d is mistyped or cut", n)
		}
		return fmt.Sprintf("line %d is no key", n)
	}
	return "there is no key in it"
}

// RecipientOf returns the recipient of an identity, where it can be told.
func RecipientOf(id age.Identity) (Recipient, bool) {
	switch id := id.(type) {
	case *age.X25519Identity:
		return Recipient{id.Recipient().String()}, true
	case *age.HybridIdentity:
		return Recipient{id.Recipient().String()}, true
	}
	return Recipient{}, false
}
