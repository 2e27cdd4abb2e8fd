package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

const (
	logName    = "mailcryptfs audit log"
	version    = 1
	lineLabel  = "mailcryptfs audit line v1\x00"
	timeLayout = "2006-01-02T15:04:05.000Z"
	macSize    = 16
	// macTail is the length of what follows the authenticated part of a line, its newline included.
	macTail = len(`,"mac":""}`) + 2*macSize + 1
)

// mac authenticates a line: the first 16 bytes of an HMAC-SHA256 (FORMAT.md L4).
type mac [macSize]byte

func (m mac) String() string { return hex.EncodeToString(m[:]) }

// errLine says that a line is not one that a writer with this key wrote.
var errLine = errors.New("it does not authenticate")

// line is one line of a segment. Log and Version stand in the first line of a segment only.
type line struct {
	Log     string `json:"log,omitempty"`
	Version int    `json:"version,omitempty"`
	Seq     uint64 `json:"seq"`
	Time    string `json:"time"`
	What    string `json:"what"`
	User    string `json:"user,omitempty"`
	UserHex string `json:"user_hex,omitempty"` // of a name that is not UTF-8
	Cause   string `json:"cause,omitempty"`
	By      string `json:"by,omitempty"`
	Peer    string `json:"peer,omitempty"`
	Detail  string `json:"detail,omitempty"`
	Prev    string `json:"prev"`

	mac mac
}

// newLine makes the line of an event; its place in the chain is set by seal.
func newLine(e Event) line {
	l := line{
		Time: e.Time.UTC().Format(timeLayout), What: text(e.What, maxText), Cause: text(e.Cause, maxText), By: text(e.By, maxText),
		Peer: text(e.Peer, maxText), Detail: text(e.Detail, maxDetail),
	}
	if u := string(e.User); utf8.ValidString(u) {
		l.User = u
	} else {
		l.UserHex = hex.EncodeToString([]byte(u))
	}
	return l
}

// text makes s valid UTF-8 of at most limit bytes.
func text(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") // without the part of a character that is left at the end
	}
	return s
}

// event is the inverse of newLine.
func (l *line) event() (Event, error) {
	at, err := time.Parse(timeLayout, l.Time)
	if err != nil {
		return Event{}, fmt.Errorf("its time is not well-formed: %w", err)
	}
	user := l.User
	if l.UserHex != "" {
		b, err := hex.DecodeString(l.UserHex)
		if err != nil {
			return Event{}, fmt.Errorf("its user_hex is not hex: %w", err)
		}
		user = string(b)
	}
	return Event{Time: at, User: account.User(user), What: l.What, Cause: l.Cause, By: l.By, Peer: l.Peer, Detail: l.Detail}, nil
}

// seal encodes a line, with its MAC and its newline, and sets l.mac.
func (l *line) seal(host string, key *secret.Key) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(l); err != nil {
		return nil, fmt.Errorf("cannot encode an audit event: %w", err)
	}
	body := bytes.TrimSuffix(b.Bytes(), []byte("}\n"))
	var err error
	if l.mac, err = authenticate(lineLabel, host, body, key); err != nil {
		return nil, err
	}
	return fmt.Appendf(body, ",\"mac\":%q}\n", l.mac), nil
}

// parseLine reads one line, without judging its place in the chain. It returns errLine for what no writer with this key
// wrote on this host, ErrUnsupported for the first line of a later version, and secret.ErrWiped.
func parseLine(b []byte, host string, key *secret.Key) (line, error) {
	if err := judgeVersion(b); err != nil {
		return line{}, err
	}
	body, found, ok := cutMAC(b)
	if !ok {
		return line{}, errLine
	}
	want, err := authenticate(lineLabel, host, body, key)
	if err != nil {
		return line{}, err
	}
	if !hmac.Equal(want[:], found[:]) {
		return line{}, errLine
	}
	// It is authentic. What does not parse now was written by a later version, or is our own mistake.
	l := line{mac: found}
	d := json.NewDecoder(bytes.NewReader(append(bytes.Clone(body), '}')))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return line{}, fmt.Errorf("%w: %w", errLine, err)
	}
	return l, nil
}

// cutMAC splits a whole line, newline included, into what is authenticated and the MAC.
func cutMAC(b []byte) (body []byte, m mac, ok bool) {
	n := len(b) - macTail
	if n < 2 || len(b) > maxLine {
		return nil, m, false
	}
	tail := b[n:]
	if _, err := hex.Decode(m[:], tail[len(`,"mac":"`):len(tail)-len("\"}\n")]); err != nil {
		return nil, m, false
	}
	return b[:n], m, string(tail) == fmt.Sprintf(",\"mac\":%q}\n", m)
}

// firstLine is what every segment of every version begins with.
var firstLine = regexp.MustCompile(`\A\{"log":"` + logName + `","version":(0|[1-9][0-9]{0,8})[,}]`)

// judgeVersion returns ErrUnsupported for the first line of a segment of another version. Nothing else of such a line is
// judged (FORMAT.md F1).
func judgeVersion(b []byte) error {
	if m := firstLine.FindSubmatch(b); m != nil && string(m[1]) != fmt.Sprint(version) {
		return fmt.Errorf("%w: version %s, this program knows version %d", ErrUnsupported, m[1], version)
	}
	return nil
}

func authenticate(label, host string, body []byte, key *secret.Key) (mac, error) {
	var sum mac
	err := key.Use(func(k []byte) error {
		h := hmac.New(sha256.New, k)
		h.Write([]byte(label))
		h.Write([]byte(host))
		h.Write([]byte{0})
		h.Write(body)
		copy(sum[:], h.Sum(nil))
		return nil
	})
	if err != nil {
		return mac{}, fmt.Errorf("cannot authenticate the audit log: %w", err)
	}
	return sum, nil
}
