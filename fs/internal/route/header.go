package route

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// Header is what a cyrus.header says of its mailbox.
type Header struct {
	Name string // internal: "example.org!user.alice.Sent"
	ID   string // uuid, which is also the name of the mailbox's directory
}

// MaxHeader is how many bytes of a cyrus.header are read at most.
const MaxHeader = 1 << 16

// ErrHeader says that a cyrus.header does not tell whose mailbox it is.
var ErrHeader = errors.New(HeaderName + " does not tell the name of its mailbox")

const headerMagic = "\241\002\213\015Cyrus mailbox header\n" +
	"\"The best thing about this system was that it had lots of goals.\"\n" +
	"\t--Jim Morris on Andrew\n"

// ParseHeader reads a cyrus.header, of which MaxHeader bytes are enough: after the
// magic, one list of keys and values in the manner of IMAP, "%(T e N name I id …)".
// The error is ErrHeader.
func ParseHeader(b []byte) (Header, error) {
	rest, ok := bytes.CutPrefix(b, []byte(headerMagic+"%("))
	var h Header
	p := listParser{rest}
	for ok && (h.Name == "" || h.ID == "") {
		var key, value string
		if key, ok = p.value(0); !ok {
			break
		}
		if value, ok = p.value(0); !ok {
			break
		}
		switch key {
		case "N":
			h.Name = value
		case "I":
			h.ID = value
		}
	}
	if h.Name == "" || h.ID == "" {
		return Header{}, ErrHeader
	}
	return h, nil
}

// listParser reads the values of a list.
type listParser struct{ rest []byte }

// maxNesting bounds the lists within lists.
const maxNesting = 8

// value reads an atom, a quoted string or a literal; of a list it returns nothing.
func (p *listParser) value(depth int) (string, bool) {
	p.rest = bytes.TrimLeft(p.rest, " ")
	if len(p.rest) == 0 || depth > maxNesting {
		return "", false
	}
	switch p.rest[0] {
	case '"':
		return p.quoted()
	case '{':
		return p.literal()
	case '%', '(':
		return "", p.list(depth)
	}
	end := bytes.IndexAny(p.rest, " ()\r\n")
	if end <= 0 {
		return "", false
	}
	s := string(p.rest[:end])
	p.rest = p.rest[end:]
	return s, true
}

func (p *listParser) list(depth int) bool {
	p.rest = bytes.TrimPrefix(p.rest, []byte("%"))
	if len(p.rest) == 0 || p.rest[0] != '(' {
		return false
	}
	for p.rest = p.rest[1:]; ; {
		p.rest = bytes.TrimLeft(p.rest, " ")
		if rest, ok := bytes.CutPrefix(p.rest, []byte(")")); ok {
			p.rest = rest
			return true
		}
		if _, ok := p.value(depth + 1); !ok {
			return false
		}
	}
}

func (p *listParser) quoted() (string, bool) {
	var s []byte
	for i := 1; i < len(p.rest); i++ {
		switch p.rest[i] {
		case '"':
			p.rest = p.rest[i+1:]
			return string(s), true
		case '\\':
			if i++; i == len(p.rest) {
				return "", false
			}
		}
		s = append(s, p.rest[i])
	}
	return "", false
}

// literal reads {n} or {n+}, a line break, and n bytes.
func (p *listParser) literal() (string, bool) {
	count, _, ok := strings.Cut(string(p.rest[1:min(len(p.rest), 16)]), "}\r\n")
	n, err := strconv.ParseUint(strings.TrimSuffix(count, "+"), 10, 16)
	if !ok || err != nil {
		return "", false
	}
	from := 1 + len(count) + len("}\r\n")
	if uint64(len(p.rest)-from) < n {
		return "", false
	}
	s := string(p.rest[from : from+int(n)])
	p.rest = p.rest[from+int(n):]
	return s, true
}

// Mailbox is what is known of a directory whose header tells the mailbox. It is
// immutable.
type Mailbox struct {
	Name   string         // as in Header
	Former []account.User // whose it was before: files may be under keys of theirs
}

// Box reports whether the header in d tells the mailbox, and so whose d is. Until As
// was asked, a box is nobody's.
func (d *Dir) Box() bool { return d.box }

// As returns box d as the directory of mailbox m: what it would be if it had its
// place by name.
func (d *Dir) As(m *Mailbox) *Dir {
	at := &Dir{pol: d.pol, spot: outside, off: true}
	name := m.Name
	if domain, rest, ok := strings.Cut(name, "!"); ok {
		at.vars.d, name = domain, rest
	}
	parts := strings.Split(name, ".")
	if parts[0] == deleteName {
		parts = parts[1:]
	}
	if len(parts) > 1 && parts[0] == userName {
		at.spot, at.off, parts = users, false, parts[1:]
	}
	for _, part := range parts {
		at = at.Child(part)
	}
	at.box, at.former = true, m.Former
	return at
}

// Former returns whose d was before, when its header named another user.
func (d *Dir) Former() []account.User { return d.former }
