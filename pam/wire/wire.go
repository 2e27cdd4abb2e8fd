// Package wire encodes and parses the frames between the PAM module and the daemon, as PROTOCOL.md defines them.
// Comments cite its rules by number. Everything is bounded before it is read, and what is parsed is exactly what an
// encoder would have written.
package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Version is the version of the frames that this package speaks.
const Version = 1

// Limits in bytes (P6, P7, P9).
const (
	MaxUser     = 1024
	MaxService  = 128
	MaxHost     = 255
	MaxPassword = 1024
	MaxText     = 200
	// MaxRequest is the longest request, header included: a change with all fields at their limits.
	MaxRequest = headSize + 3*2 + MaxUser + 2*MaxPassword
)

const headSize = 8

var (
	// ErrMalformed says that a frame is not what PROTOCOL.md allows, or that a value cannot be sent.
	ErrMalformed = errors.New("malformed frame")
	// ErrVersion says that a frame has a version that this package does not speak.
	ErrVersion = errors.New("unsupported version of the frames")
)

// Kind tells what a request asks for (P6).
type Kind uint8

// Kinds of requests.
const (
	Login  Kind = 1 // a password was accepted
	Change Kind = 2 // a password was changed by somebody who gave the old one
	Reset  Kind = 3 // a password was changed by somebody who did not know the old one
)

// String returns the word that PROTOCOL.md uses.
func (k Kind) String() string {
	switch k {
	case Login:
		return "login"
	case Change:
		return "change"
	case Reset:
		return "reset"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Request is one request. Fields that its kind does not have are empty and are not sent. The passwords are the
// caller's to wipe; a Request is printed without them.
type Request struct {
	Kind       Kind
	User       string
	Service    string // login only: the PAM service
	RemoteHost string // login only: where the client is, as the mail server says; empty if unknown
	Old        []byte // change only: the password before
	Password   []byte // the password that is valid now
}

// String leaves out the passwords.
func (r Request) String() string {
	return fmt.Sprintf("%v user=%q service=%q rhost=%q", r.Kind, r.User, r.Service, r.RemoteHost)
}

// Format prints String for every verb, so that no verb shows a password.
func (r Request) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, r.String()) }

// LogValue leaves out the passwords.
func (r Request) LogValue() slog.Value { return slog.StringValue(r.String()) }

// field is one field of a body: exactly one of text and secret is set.
type field struct {
	text     *string
	secret   *[]byte
	min, max int
}

// fields returns the fields of the request's kind in the order of P6, nil for an unknown kind.
func (r *Request) fields() []field {
	user := field{text: &r.User, min: 1, max: MaxUser}
	password := field{secret: &r.Password, min: 1, max: MaxPassword}
	switch r.Kind {
	case Login:
		return []field{user, {text: &r.Service, max: MaxService}, {text: &r.RemoteHost, max: MaxHost}, password}
	case Change:
		return []field{user, {secret: &r.Old, min: 1, max: MaxPassword}, password}
	case Reset:
		return []field{user, password}
	}
	return nil
}

// maxBody returns the longest body of a kind (P6), or 0 for an unknown kind.
func (k Kind) maxBody() int {
	n := 0
	for _, f := range (&Request{Kind: k}).fields() {
		n += 2 + f.max
	}
	return n
}

// Append appends the frame of r to dst (P5 to P7). It returns ErrMalformed, and dst as it was, if a field is too short,
// too long or contains a zero byte. With MaxRequest bytes of free capacity in dst it does not allocate for the frame, so
// that no copy of a password is left behind; the caller wipes dst.
func (r Request) Append(dst []byte) ([]byte, error) {
	fields := r.fields()
	if fields == nil {
		return dst, fmt.Errorf("%w: %v", ErrMalformed, r.Kind)
	}
	frame := append(dst, 'm', 'c', 'p', 'r', Version, byte(r.Kind), 0, 0)
	for i, f := range fields {
		var err error
		if f.text != nil {
			frame, err = appendField(frame, *f.text, f)
		} else {
			frame, err = appendField(frame, *f.secret, f)
		}
		if err != nil {
			clear(frame[len(dst):])
			return dst, fmt.Errorf("field %d of %v: %w", i+1, r.Kind, err)
		}
	}
	binary.BigEndian.PutUint16(frame[len(dst)+6:], uint16(len(frame)-len(dst)-headSize))
	return frame, nil
}

func appendField[T string | []byte](dst []byte, value T, f field) ([]byte, error) {
	if len(value) < f.min || len(value) > f.max {
		return dst, fmt.Errorf("%w: %d bytes, not %d to %d", ErrMalformed, len(value), f.min, f.max)
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(value)))
	at := len(dst)
	dst = append(dst, value...)
	if bytes.IndexByte(dst[at:], 0) >= 0 {
		return dst, fmt.Errorf("%w: a zero byte", ErrMalformed)
	}
	return dst, nil
}

// ReadRequest reads one request from r into page, which must have MaxRequest bytes or more, and parses it; it reads
// nothing beyond the request. The passwords of the result lie in page: the caller wipes page when done, also after an
// error. It returns io.EOF if r ends before the first byte (P2), ErrMalformed, ErrVersion, or the error of r.
func ReadRequest(r io.Reader, page []byte) (Request, error) {
	if _, err := io.ReadFull(r, page[:headSize]); err != nil {
		return Request{}, err
	}
	kind, length, err := parseHead(page[:headSize])
	if err != nil {
		return Request{}, err
	}
	body := page[headSize : headSize+length]
	if _, err := io.ReadFull(r, body); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Request{}, err
	}
	return parseBody(kind, body)
}

// ParseRequest parses one whole frame. The passwords of the result alias frame. It returns ErrMalformed or ErrVersion.
func ParseRequest(frame []byte) (Request, error) {
	if len(frame) < headSize {
		return Request{}, fmt.Errorf("%w: %d bytes", ErrMalformed, len(frame))
	}
	kind, length, err := parseHead(frame[:headSize])
	if err != nil {
		return Request{}, err
	}
	if len(frame) != headSize+length {
		return Request{}, fmt.Errorf("%w: %d bytes where the header says %d", ErrMalformed, len(frame), headSize+length)
	}
	return parseBody(kind, frame[headSize:])
}

// parseHead judges in the order of P8.
func parseHead(head []byte) (Kind, int, error) {
	if string(head[:4]) != "mcpr" {
		return 0, 0, fmt.Errorf("%w: magic %x", ErrMalformed, head[:4])
	}
	if head[4] != Version {
		return 0, 0, fmt.Errorf("%w: %d", ErrVersion, head[4])
	}
	kind := Kind(head[5])
	length := int(binary.BigEndian.Uint16(head[6:]))
	if longest := kind.maxBody(); length > longest {
		return 0, 0, fmt.Errorf("%w: a body of %d bytes for %v, at most %d", ErrMalformed, length, kind, longest)
	}
	if kind.maxBody() == 0 {
		return 0, 0, fmt.Errorf("%w: %v", ErrMalformed, kind)
	}
	return kind, length, nil
}

func parseBody(kind Kind, body []byte) (Request, error) {
	r := Request{Kind: kind}
	for i, f := range r.fields() {
		if len(body) < 2 {
			return Request{}, fmt.Errorf("%w: it ends before field %d", ErrMalformed, i+1)
		}
		n := int(binary.BigEndian.Uint16(body))
		body = body[2:]
		switch {
		case n < f.min, n > f.max, n > len(body):
			return Request{}, fmt.Errorf("%w: field %d has %d bytes", ErrMalformed, i+1, n)
		case bytes.IndexByte(body[:n], 0) >= 0:
			return Request{}, fmt.Errorf("%w: a zero byte in field %d", ErrMalformed, i+1)
		case f.text != nil:
			*f.text = string(body[:n])
		default:
			*f.secret = body[:n:n]
		}
		body = body[n:]
	}
	if len(body) > 0 {
		return Request{}, fmt.Errorf("%w: %d bytes after the last field", ErrMalformed, len(body))
	}
	return r, nil
}
