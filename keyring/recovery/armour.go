package recovery

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

var (
	// ErrTruncated says that the end of a request, answer or share is missing.
	ErrTruncated = errors.New("the end is missing: it was cut short on its way")
	// ErrDamaged says that a request, answer or share is not what was written.
	ErrDamaged = errors.New("it was damaged on its way")
	// ErrKind says that a text is something else: not a request, answer or share, or of a version that is not known.
	ErrKind = errors.New("it is something else")
)

// maxText is the size of the largest text that is read, in bytes.
const maxText = 1 << 20

// version is the one that this program knows, of all texts (FORMAT.md K21).
const version = 1

// kind names what is between the first and the last line of a text.
type kind string

const (
	kindRequest kind = "RECOVERY REQUEST"
	kindAnswer  kind = "RECOVERY ANSWER"
	kindPending kind = "RECOVERY PENDING"
	kindShare   kind = "RECOVERY SHARE"
)

func (k kind) begin() string { return "-----BEGIN MAILCRYPTFS " + string(k) + "-----\n" }
func (k kind) end() string   { return "-----END MAILCRYPTFS " + string(k) + "-----\n" }

// armour puts lines of a body between a first line, a check sum and a last line (FORMAT.md K21). It wipes body.
func armour(k kind, body []byte) []byte {
	defer secret.Wipe(body)
	sum := sha256.Sum256(body)
	b := make([]byte, 0, len(body)+200)
	b = append(b, k.begin()...)
	b = fmt.Appendf(b, "sum = \"%x\"\n", sum)
	b = append(b, body...)
	return append(b, k.end()...)
}

var anyBegin = regexp.MustCompile(`-----BEGIN ([A-Z ]+)-----`)

// unarmour finds the one text of a kind in b, whatever stands before and behind it, and returns its body. The caller
// wipes that if it is secret. Errors: ErrKind, ErrTruncated, ErrDamaged.
func unarmour(k kind, b []byte) ([]byte, error) {
	if len(b) > maxText {
		return nil, fmt.Errorf("%w: it has more than 1 MiB", ErrKind)
	}
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	defer secret.Wipe(b)
	_, rest, found := bytes.Cut(b, []byte(k.begin()))
	if !found {
		if m := anyBegin.FindSubmatch(b); m != nil {
			return nil, fmt.Errorf("%w: %q, not a mailcryptfs %s", ErrKind, m[1], k)
		}
		return nil, fmt.Errorf("%w: there is no mailcryptfs %s in it", ErrKind, k)
	}
	// The last line may have lost its newline to an editor.
	body, _, found := bytes.Cut(rest, bytes.TrimSuffix([]byte(k.end()), []byte("\n")))
	if !found {
		return nil, ErrTruncated
	}
	line, body, _ := bytes.Cut(body, []byte("\n"))
	sum := sha256.Sum256(body)
	if string(line) != fmt.Sprintf("sum = \"%x\"", sum) {
		return nil, ErrDamaged
	}
	return bytes.Clone(body), nil
}

// decode reads a body into a struct, and refuses another version and keys that the struct does not have.
func decode(body []byte, v any) error {
	var first struct {
		Version int `toml:"version"`
	}
	if err := toml.Unmarshal(body, &first); err != nil {
		return fmt.Errorf("%w: it is not TOML", ErrDamaged)
	}
	if first.Version != version {
		return fmt.Errorf("%w: version %d, this program knows version %d", ErrKind, first.Version, version)
	}
	meta, err := toml.Decode(string(body), v)
	if err != nil {
		return fmt.Errorf("%w: a value has the wrong type", ErrDamaged)
	}
	if extra := meta.Undecoded(); len(extra) > 0 {
		return fmt.Errorf("%w: unknown key %q", ErrDamaged, extra[0])
	}
	return nil
}

// fields checks values and keeps the first error.
type fields struct{ err error }

func (f *fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
	}
}

func (f *fields) hex(name, s string, into []byte) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(into) {
		f.fail("%s is not %d bytes in hex", name, len(into))
		return
	}
	copy(into, b)
	secret.Wipe(b)
}

func (f *fields) base64(name, s string, low, high int) []byte {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) < low || len(b) > high {
		f.fail("%s is not %d to %d bytes in base64", name, low, high)
		return nil
	}
	return b
}

func (f *fields) text(name, s string, limit int) string {
	if len(s) > limit || !utf8.ValidString(s) {
		f.fail("%s has more than %d bytes", name, limit)
	}
	return s
}

// user takes a name, or in hex one that is not UTF-8.
func (f *fields) user(name, inHex string) account.User {
	if inHex != "" {
		b, err := hex.DecodeString(inHex)
		if err != nil || name != "" || utf8.Valid(b) {
			f.fail("user_hex is wrong")
		}
		name = string(b)
	}
	u, err := account.Parse(name)
	if err != nil {
		f.fail("%v", err)
	}
	return u
}

// names returns what user takes.
func names(u account.User) (name, inHex string) {
	if utf8.ValidString(string(u)) {
		return string(u), ""
	}
	return "", hex.EncodeToString([]byte(u))
}

// marshal encodes a struct as TOML.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := toml.NewEncoder(&b)
	enc.Indent = ""
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("cannot encode: %w", err)
	}
	return b.Bytes(), nil
}
