package recovery

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// MaxWrapped is the size of the largest age file in a slot, in bytes (FORMAT.md K10).
const MaxWrapped = 8 << 10

// Wrap encrypts the private half of the identity, with what binds it to its place, to one recipient: an age file in its
// binary form (FORMAT.md K6). Error: secret.ErrWiped.
func Wrap(identity *slot.Identity, to Recipient, at slot.Place) ([]byte, error) {
	label := at.Label()
	var wrapped []byte
	err := identity.Use(func(seed []byte) error {
		plain := append(append(make([]byte, 0, len(label)+len(seed)), label...), seed...)
		defer secret.Wipe(plain)
		var err error
		wrapped, err = encrypt(plain, to)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot wrap an identity for a recovery key: %w", err)
	}
	return wrapped, nil
}

// Unwrap opens what Wrap made, and compares the identity with that of the record. The caller wipes the identity. Errors:
// ErrNoMatch (another recovery key), slot.ErrWrongSecret (it was wrapped for another user or slot, or damaged),
// slot.ErrForeign, secret.ErrMemory.
func Unwrap(wrapped []byte, ids []age.Identity, at slot.Place, public []byte) (*slot.Identity, error) {
	label := at.Label()
	plain, err := decrypt(wrapped, len(label)+secret.Size, ids)
	defer secret.Wipe(plain)
	switch {
	case errors.Is(err, ErrNoMatch):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", slot.ErrWrongSecret, err)
	case len(plain) != len(label)+secret.Size || !bytes.Equal(plain[:len(label)], label):
		return nil, fmt.Errorf("%w: it was wrapped for another user or slot", slot.ErrWrongSecret)
	}
	return slot.FromSeed(plain[len(label):], public)
}

// encrypt makes an age file for recipients of one kind.
func encrypt(plain []byte, to ...Recipient) ([]byte, error) {
	recipients := make([]age.Recipient, len(to))
	for i, r := range to {
		var err error
		if recipients[i], err = r.age(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRecipient, err)
		}
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, recipients...)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// decrypt opens an age file whose content has at most limit bytes; of a larger one it returns one byte more. The caller
// wipes the result. Error: ErrNoMatch, or what is wrong with the file.
func decrypt(file []byte, limit int, ids []age.Identity) ([]byte, error) {
	if len(ids) == 0 {
		return nil, ErrNoMatch
	}
	r, err := age.Decrypt(bytes.NewReader(file), ids...)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return nil, ErrNoMatch
	}
	if err != nil {
		return nil, err
	}
	// Not ReadAll, whose growing buffers nobody would wipe.
	plain := make([]byte, limit+1)
	n, err := io.ReadFull(r, plain)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		secret.Wipe(plain)
		return nil, err
	}
	return plain[:n], nil
}
