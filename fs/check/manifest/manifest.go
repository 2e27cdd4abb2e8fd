// Package manifest reads and writes lists of the messages that a store had at one time (FORMAT.md section 9). Kept away from
// the store, such a list shows later which messages are gone, or were put back to an older state. It tells no more than the
// store itself: names in it are stored names.
package manifest

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

var (
	// ErrCorrupt says that a manifest is not as it was written: cut, changed, or none at all.
	ErrCorrupt = errors.New("the manifest was changed, or is none")
	// ErrForeign says that a manifest is well-formed, but was not made with this site secret, or was changed.
	ErrForeign = errors.New("the manifest does not authenticate under the site secret")
	// ErrUnsupported says that a manifest has another format version.
	ErrUnsupported = errors.New("the manifest has a version that is not supported")
)

const (
	magic    = "mailcryptfs manifest "
	version  = "1"
	macLabel = "mailcryptfs manifest v1\x00"
	tagLabel = "mailcryptfs manifest name v1\x00"
	maxLine  = 16 << 10
)

// Tag stands for the name of a message without its flags: equal names have equal tags.
type Tag [16]byte

// TagOf returns the tag of a message with this name in the view, under the record MAC key of the site (rule M3). Flags of a
// maildir, which begin at a colon, do not count.
func TagOf(name string, mac *secret.Key) (tag Tag, err error) {
	base, _, _ := strings.Cut(name, ":")
	sum, err := macOf(mac, tagLabel+base)
	copy(tag[:], sum)
	return tag, err
}

func macOf(mac *secret.Key, text string) (sum []byte, err error) {
	err = mac.Use(func(key []byte) error {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(text))
		sum = m.Sum(nil)
		return nil
	})
	return sum, err
}

// Head says of what store a manifest is.
type Head struct {
	Created time.Time    // in whole seconds
	User    account.User // the only user whose messages are listed; "" for everybody's
}

// Entry is one message.
type Entry struct {
	User   account.User
	Folder string // stored path of its directory below the root of the store
	Name   string // stored name
	Tag    Tag
	Size   int64 // stored bytes
	Key    secret.ID
	Salt   [32]byte
}

// Writer writes a manifest. It is not safe for concurrent use.
type Writer struct {
	w      *bufio.Writer
	digest hash.Hash
	mac    *secret.Key
	user   account.User
	folder string
	any    bool
	count  int64
}

// NewWriter begins a manifest. mac is the record MAC key of the site and stays the caller's. Close completes it.
func NewWriter(w io.Writer, mac *secret.Key, h Head) (*Writer, error) {
	digest := sha256.New()
	m := &Writer{w: bufio.NewWriter(io.MultiWriter(w, digest)), digest: digest, mac: mac}
	_, err := fmt.Fprintf(m.w, "%s%s\ncreated %s\nuser %s\n", magic, version, h.Created.UTC().Format(time.RFC3339), escape(string(h.User)))
	return m, err
}

// Add writes one message.
func (m *Writer) Add(e Entry) error {
	if !m.any || e.Folder != m.folder || e.User != m.user {
		m.any, m.folder, m.user = true, e.Folder, e.User
		if _, err := fmt.Fprintf(m.w, "folder %s %s\n", escape(string(e.User)), escape(e.Folder)); err != nil {
			return err
		}
	}
	m.count++
	_, err := fmt.Fprintf(m.w, "message %d %s %x %x %s\n", e.Size, e.Key, e.Salt, e.Tag, escape(e.Name))
	return err
}

// Close writes the end, without which nobody takes the manifest for one. It does not close what it writes to.
func (m *Writer) Close() error {
	if _, err := fmt.Fprintf(m.w, "messages %d\n", m.count); err != nil {
		return err
	}
	if err := m.w.Flush(); err != nil {
		return err
	}
	sum, err := macOf(m.mac, macLabel+string(m.digest.Sum(nil)))
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(m.w, "mac %x\n", sum); err != nil {
		return err
	}
	return m.w.Flush()
}

// escape makes one word of a byte string; the empty one becomes "-".
func escape(s string) string {
	if s == "" {
		return "-"
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '%' || s == "-" {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// unescape undoes escape, and takes nothing else.
func unescape(word string) (string, error) {
	if word == "-" {
		return "", nil
	}
	var b strings.Builder
	for i := 0; i < len(word); i++ {
		if word[i] != '%' {
			b.WriteByte(word[i])
			continue
		}
		if i+3 > len(word) {
			return "", ErrCorrupt
		}
		c, err := hex.DecodeString(word[i+1 : i+3])
		if err != nil {
			return "", ErrCorrupt
		}
		b.WriteByte(c[0])
		i += 2
	}
	if s := b.String(); s != "" && escape(s) == word {
		return s, nil
	}
	return "", ErrCorrupt
}
