package recovery

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

// maxEscrow is the size of the largest escrow file that is read, in bytes.
const maxEscrow = 1 << 20

// ErrEscrow says that a file is not an escrow of a site secret.
var ErrEscrow = errors.New("not an escrow of the site secret")

// SealSite encrypts the site secret, 32 bytes that stay the caller's to wipe, to recovery keys (FORMAT.md K23). The result
// is text that the age program opens as well; where classic and hybrid recipients are mixed, which age refuses, it is two
// age files one after the other.
func SealSite(s []byte, to []Recipient) ([]byte, error) {
	if len(to) == 0 {
		return nil, fmt.Errorf("cannot escrow the site secret: there is no recovery key")
	}
	content := site.Encode(s)
	defer secret.Wipe(content)
	var out bytes.Buffer
	for _, hybrid := range []bool{true, false} {
		var some []Recipient
		for _, r := range to {
			if r.Hybrid() == hybrid {
				some = append(some, r)
			}
		}
		if len(some) == 0 {
			continue
		}
		file, err := encrypt(content, some...)
		if err != nil {
			return nil, fmt.Errorf("cannot escrow the site secret: %w", err)
		}
		w := armor.NewWriter(&out)
		if _, err := w.Write(file); err != nil {
			return nil, fmt.Errorf("cannot escrow the site secret: %w", err)
		}
		if err := w.Close(); err != nil {
			return nil, fmt.Errorf("cannot escrow the site secret: %w", err)
		}
	}
	return out.Bytes(), nil
}

// OpenSite opens what SealSite made, and returns the 32 bytes of the site secret, which the caller wipes. Errors:
// ErrNoMatch, ErrEscrow.
func OpenSite(file []byte, ids []age.Identity) ([]byte, error) {
	if len(file) > maxEscrow {
		return nil, fmt.Errorf("%w: it is larger than 1 MiB", ErrEscrow)
	}
	parts := bytes.SplitAfter(file, []byte(armor.Footer))
	noMatch := false
	for _, part := range parts {
		at := bytes.Index(part, []byte(armor.Header))
		if at < 0 {
			continue
		}
		inner, err := io.ReadAll(armor.NewReader(bytes.NewReader(part[at:])))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrEscrow, err)
		}
		content, err := decrypt(inner, len(site.Encode(make([]byte, secret.Size))), ids)
		if errors.Is(err, ErrNoMatch) {
			noMatch = true
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrEscrow, err)
		}
		s, err := site.Parse(content)
		secret.Wipe(content)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrEscrow, err)
		}
		return s, nil
	}
	if noMatch {
		return nil, ErrNoMatch
	}
	return nil, fmt.Errorf("%w: there is no age file in it", ErrEscrow)
}
