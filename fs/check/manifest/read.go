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
	"strconv"
	"strings"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// Read reads a manifest and calls f for each message. What f was given counts only if the error is nil: the MAC comes last.
// Errors: ErrUnsupported, ErrCorrupt, ErrForeign, those of r and of f. mac is the record MAC key of the site.
func Read(r io.Reader, mac *secret.Key, f func(Entry) error) (Head, error) {
	p := &reader{in: bufio.NewReaderSize(r, maxLine), digest: sha256.New(), add: f}
	if err := p.version(); err != nil {
		return Head{}, err
	}
	if err := p.head(); err != nil {
		return Head{}, err
	}
	for {
		more, err := p.entry()
		if err != nil {
			return Head{}, err
		}
		if !more {
			return p.h, p.end(mac)
		}
	}
}

// reader is one Read.
type reader struct {
	in     *bufio.Reader
	digest hash.Hash // of all lines so far
	add    func(Entry) error
	h      Head
	at     Entry // folder and user of the messages that follow
	placed bool
	count  int64
}

// line returns the words of the next line.
func (p *reader) line() ([]string, error) {
	b, err := p.in.ReadSlice('\n')
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, bufio.ErrBufferFull):
		return nil, ErrCorrupt
	case err != nil:
		return nil, err
	}
	words := strings.Split(string(b[:len(b)-1]), " ")
	if words[0] != "mac" {
		p.digest.Write(b)
	}
	return words, nil
}

func (p *reader) version() error {
	words, err := p.line()
	if err != nil {
		return err
	}
	v, ok := strings.CutPrefix(strings.Join(words, " "), magic)
	if n, err := strconv.ParseUint(v, 10, 31); !ok || err != nil || strconv.FormatUint(n, 10) != v {
		return ErrCorrupt
	}
	if v != version {
		return fmt.Errorf("%w: %s", ErrUnsupported, v)
	}
	return nil
}

// field reads a line of a keyword and one word.
func (p *reader) field(keyword string) (string, error) {
	words, err := p.line()
	if err == nil && (len(words) != 2 || words[0] != keyword) {
		err = ErrCorrupt
	}
	if err != nil {
		return "", err
	}
	return words[1], nil
}

func (p *reader) head() error {
	created, err := p.field("created")
	if err != nil {
		return err
	}
	p.h.Created, err = time.Parse(time.RFC3339, created)
	if err != nil || p.h.Created.UTC().Format(time.RFC3339) != created {
		return ErrCorrupt
	}
	user, err := p.field("user")
	if err != nil {
		return err
	}
	p.h.User, err = userOf(user)
	return err
}

func userOf(word string) (account.User, error) {
	name, err := unescape(word)
	if err != nil || name == "" {
		return "", err
	}
	u, err := account.Parse(name)
	if err != nil {
		return "", ErrCorrupt
	}
	return u, nil
}

// entry reads a folder or a message; more is false at the line of the count.
func (p *reader) entry() (more bool, err error) {
	words, err := p.line()
	if err != nil {
		return false, err
	}
	switch {
	case words[0] == "folder" && len(words) == 3:
		p.placed = true
		if p.at.User, err = userOf(words[1]); err == nil {
			p.at.Folder, err = unescape(words[2])
		}
		return true, err
	case words[0] == "message" && len(words) == 6 && p.placed:
		e, err := parseMessage(p.at, words[1:])
		if err != nil {
			return false, err
		}
		p.count++
		return true, p.add(e)
	case words[0] == "messages" && len(words) == 2 && words[1] == strconv.FormatInt(p.count, 10):
		return false, nil
	}
	return false, ErrCorrupt
}

func parseMessage(e Entry, words []string) (Entry, error) {
	var err error
	if e.Size, err = strconv.ParseInt(words[0], 10, 64); err != nil || e.Size < 0 || strconv.FormatInt(e.Size, 10) != words[0] {
		return e, ErrCorrupt
	}
	if !digits(e.Key[:], words[1]) || !digits(e.Salt[:], words[2]) || !digits(e.Tag[:], words[3]) {
		return e, ErrCorrupt
	}
	if e.Name, err = unescape(words[4]); err != nil || e.Name == "" {
		return e, ErrCorrupt
	}
	return e, nil
}

// digits decodes exactly as many lower-case hex digits as b wants.
func digits(b []byte, word string) bool {
	if len(word) != hex.EncodedLen(len(b)) || strings.ToLower(word) != word {
		return false
	}
	_, err := hex.Decode(b, []byte(word))
	return err == nil
}

// end reads the MAC and sees that nothing follows.
func (p *reader) end(mac *secret.Key) error {
	text := string(p.digest.Sum(nil))
	word, err := p.field("mac")
	if err != nil {
		return err
	}
	var sum [sha256.Size]byte
	if !digits(sum[:], word) {
		return ErrCorrupt
	}
	if _, err := p.in.ReadByte(); !errors.Is(err, io.EOF) {
		return ErrCorrupt
	}
	want, err := macOf(mac, macLabel+text)
	if err != nil {
		return err
	}
	if !hmac.Equal(sum[:], want) {
		return ErrForeign
	}
	return nil
}
