package slot

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// ErrEntry says that bytes are not the content of a keyring entry.
var ErrEntry = errors.New("not a keyring entry")

// Lengths of salt and hash in base64 without padding.
var (
	saltChars = base64.RawStdEncoding.EncodedLen(SaltSize)
	hashChars = base64.RawStdEncoding.EncodedLen(secret.Size)
)

// Entry is the content of a keyring entry (FORMAT.md R2).
type Entry struct {
	Params Params
	Salt   Salt
	Hash   *secret.Key
}

// Encode returns the entry as one PHC string and a newline; the caller wipes it. Error: secret.ErrWiped.
func (e Entry) Encode() ([]byte, error) {
	// The capacity holds the longest entry: growing would leave a copy behind.
	b := make([]byte, 0, 128)
	b = fmt.Appendf(b, "$argon2id$v=19$m=%d,t=%d,p=%d$", e.Params.MemoryKiB, e.Params.Time, e.Params.Threads)
	b = base64.RawStdEncoding.AppendEncode(b, e.Salt[:])
	b = append(b, '$')
	err := e.Hash.Use(func(h []byte) error {
		b = base64.RawStdEncoding.AppendEncode(b, h)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// ParseEntry reads exactly what Encode writes, with parameters in bounds. The caller wipes b and the entry's Hash.
// Errors: ErrEntry, ErrParams, secret.ErrMemory.
func ParseEntry(b []byte) (Entry, error) {
	head, tail, ok := cutEntry(b)
	if !ok {
		return Entry{}, ErrEntry
	}
	params, err := parseParams(head)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{Params: params}
	strict := base64.RawStdEncoding.Strict()
	if n, err := strict.Decode(e.Salt[:], tail[:saltChars]); err != nil || n != SaltSize {
		return Entry{}, fmt.Errorf("%w: the salt is not base64", ErrEntry)
	}
	hash := make([]byte, secret.Size)
	if n, err := strict.Decode(hash, tail[saltChars+1:]); err != nil || n != secret.Size {
		secret.Wipe(hash)
		return Entry{}, fmt.Errorf("%w: the hash is not base64", ErrEntry)
	}
	if e.Hash, err = secret.NewKey(hash); err != nil {
		return Entry{}, err
	}
	return e, nil
}

// cutEntry splits an entry into the parameters, and "<salt>$<hash>" of the right lengths and without newlines, which
// base64 decoders skip.
func cutEntry(b []byte) (head, tail []byte, ok bool) {
	b, ok = bytes.CutPrefix(b, []byte("$argon2id$v=19$"))
	if !ok {
		return nil, nil, false
	}
	b, ok = bytes.CutSuffix(b, []byte("\n"))
	if !ok || bytes.ContainsAny(b, "\r\n") {
		return nil, nil, false
	}
	head, tail, ok = bytes.Cut(b, []byte("$"))
	if !ok || len(tail) != saltChars+1+hashChars || tail[saltChars] != '$' {
		return nil, nil, false
	}
	return head, tail, true
}

// parseParams reads "m=<memory>,t=<time>,p=<threads>".
func parseParams(b []byte) (Params, error) {
	var values [3]uint64
	rest := b
	for i, name := range []string{"m=", "t=", "p="} {
		var field []byte
		field, rest, _ = bytes.Cut(rest, []byte(","))
		digits, ok := bytes.CutPrefix(field, []byte(name))
		if !ok {
			return Params{}, fmt.Errorf("%w: %q is missing", ErrEntry, name)
		}
		bits := 32
		if name == "p=" {
			bits = 8
		}
		v, err := strconv.ParseUint(string(digits), 10, bits)
		if err != nil {
			return Params{}, fmt.Errorf("%w: %q is not a number in range", ErrEntry, name)
		}
		values[i] = v
	}
	p := Params{MemoryKiB: uint32(values[0]), Time: uint32(values[1]), Threads: uint8(values[2])}
	// Numbers have one spelling only.
	if want := fmt.Sprintf("m=%d,t=%d,p=%d", p.MemoryKiB, p.Time, p.Threads); want != string(b) {
		return Params{}, fmt.Errorf("%w: parameters are not written as they should be", ErrEntry)
	}
	return p, p.Check()
}
