package wire

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Status is the outcome of a request (P10).
type Status uint8

// Statuses of P10. A client takes any other value as Failed.
const (
	OK          Status = 0 // done
	NotEnrolled Status = 1 // the user has no keys; nothing is wrong
	WrongSecret Status = 2 // no slot opens with the password
	Malformed   Status = 3 // the request, or the user name, breaks a rule
	Unsupported Status = 4 // the version of the request is not spoken
	Busy        Status = 5 // too many requests
	Failed      Status = 6 // the daemon's log says why
	Denied      Status = 7 // the peer is not root
)

// String returns the words of P10.
func (s Status) String() string {
	words := [...]string{
		"ok", "not enrolled", "wrong secret", "malformed", "unsupported", "busy", "failed", "denied",
	}
	if int(s) < len(words) {
		return words[s]
	}
	return fmt.Sprintf("status %d", uint8(s))
}

// Answer is the daemon's answer to one request.
type Answer struct {
	Status Status
	Text   string // one line for the log: printable ASCII, at most MaxText bytes, no name and no secret (P9)
}

// Append appends the frame of a to dst, or returns ErrMalformed, and dst as it was, if the text breaks P9.
func (a Answer) Append(dst []byte) ([]byte, error) {
	if err := checkText(a.Text); err != nil {
		return dst, err
	}
	dst = append(dst, 'm', 'c', 'p', 'a', Version, byte(a.Status))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(a.Text)))
	return append(dst, a.Text...), nil
}

// ReadAnswer reads one answer from r and nothing beyond it. It returns ErrMalformed, ErrVersion, or the error of r;
// io.ErrUnexpectedEOF if r ends too early.
func ReadAnswer(r io.Reader) (Answer, error) {
	var buf [headSize + MaxText]byte
	n, err := io.ReadFull(r, buf[:headSize])
	if n == 0 && err != nil {
		return Answer{}, fmt.Errorf("no answer: %w", io.ErrUnexpectedEOF)
	}
	if err != nil {
		return Answer{}, err
	}
	status, length, err := parseAnswerHead(buf[:headSize])
	if err != nil {
		return Answer{}, err
	}
	text := buf[headSize : headSize+length]
	if _, err := io.ReadFull(r, text); err != nil {
		return Answer{}, io.ErrUnexpectedEOF
	}
	a := Answer{Status: status, Text: string(text)}
	return a, checkText(a.Text)
}

// ParseAnswer parses one whole frame. It returns ErrMalformed or ErrVersion.
func ParseAnswer(frame []byte) (Answer, error) {
	if len(frame) < headSize {
		return Answer{}, fmt.Errorf("%w: %d bytes", ErrMalformed, len(frame))
	}
	status, length, err := parseAnswerHead(frame[:headSize])
	if err != nil {
		return Answer{}, err
	}
	if len(frame) != headSize+length {
		return Answer{}, fmt.Errorf("%w: %d bytes where the header says %d", ErrMalformed, len(frame), headSize+length)
	}
	a := Answer{Status: status, Text: string(frame[headSize:])}
	return a, checkText(a.Text)
}

func parseAnswerHead(head []byte) (Status, int, error) {
	if string(head[:4]) != "mcpa" {
		return 0, 0, fmt.Errorf("%w: magic %x", ErrMalformed, head[:4])
	}
	if head[4] != Version {
		return 0, 0, fmt.Errorf("%w: %d", ErrVersion, head[4])
	}
	length := int(binary.BigEndian.Uint16(head[6:]))
	if length > MaxText {
		return 0, 0, fmt.Errorf("%w: a text of %d bytes", ErrMalformed, length)
	}
	return Status(head[5]), length, nil
}

func checkText(text string) error {
	if len(text) > MaxText {
		return fmt.Errorf("%w: a text of %d bytes", ErrMalformed, len(text))
	}
	for i := range len(text) {
		if text[i] < 0x20 || text[i] > 0x7e {
			return fmt.Errorf("%w: byte %#02x in the text", ErrMalformed, text[i])
		}
	}
	return nil
}
