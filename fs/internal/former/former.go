// Package former writes and reads the records that tell whose a mailbox was before:
// its files may still be encrypted under that user's keys (FORMAT.md M1). It is pure.
package former

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

const (
	// DirName is the directory of the records in that of key records.
	DirName = "mailboxes"
	// MaxRecord is the size of the largest record in bytes.
	MaxRecord = 64 << 10
	// MaxUsers is how many users a record names at most.
	MaxUsers = 16

	format  = "mailcryptfs mailbox"
	suffix  = ".toml"
	macLine = len(`mac = ""`) + 2*sha256.Size + 1
)

// ErrRecord says that a record is not one that Encode has written for this mailbox
// under this key.
var ErrRecord = errors.New("not a record of this mailbox")

var validID = regexp.MustCompile(`\A[A-Za-z0-9_][A-Za-z0-9._-]{0,199}\z`)

// FileName returns the name of the record of the mailbox with this id; ok is false
// for an id that cannot have one.
func FileName(id string) (name string, ok bool) {
	return id + suffix, validID.MatchString(id)
}

// ID is the reverse of FileName.
func ID(name string) (id string, ok bool) {
	id, ok = strings.CutSuffix(name, suffix)
	return id, ok && validID.MatchString(id)
}

// Encode returns the record that says that the mailbox id was that of these users, 1
// to MaxUsers. mac is the record MAC key of the site (K1).
func Encode(id string, users []account.User, mac *secret.Key) ([]byte, error) {
	if !validID.MatchString(id) || len(users) == 0 || len(users) > MaxUsers {
		return nil, fmt.Errorf("mailbox %q cannot have a record of %d users", id, len(users))
	}
	var body bytes.Buffer
	fmt.Fprintf(&body, "format = %q\nversion = 1\nid = %q\nformer = [", format, id)
	for i, u := range users {
		if i > 0 {
			body.WriteString(", ")
		}
		fmt.Fprintf(&body, "\"%x\"", string(u))
	}
	body.WriteString("]\n")
	var out []byte
	err := mac.Use(func(key []byte) error {
		m := hmac.New(sha256.New, key)
		m.Write([]byte("mailcryptfs record v1\x00" + format + "\x00"))
		m.Write(body.Bytes())
		out = fmt.Appendf(nil, "mac = \"%x\"\n%s", m.Sum(nil), body.Bytes())
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot authenticate the record of a mailbox: %w", err)
	}
	if len(out) > MaxRecord {
		return nil, fmt.Errorf("the record of mailbox %q would be too large", id)
	}
	return out, nil
}

var list = regexp.MustCompile(`\nformer = \["([0-9a-f", ]+)"\]\n\z`)

// Parse reads the record of mailbox id. It takes only what Encode would have written,
// so the MAC covers all of it. The error is ErrRecord, or that of a wiped key.
func Parse(b []byte, id string, mac *secret.Key) ([]account.User, error) {
	if len(b) > MaxRecord || len(b) < macLine {
		return nil, ErrRecord
	}
	m := list.FindSubmatch(b)
	if m == nil {
		return nil, ErrRecord
	}
	parts := strings.Split(string(m[1]), `", "`)
	if len(parts) > MaxUsers || !validID.MatchString(id) {
		return nil, ErrRecord
	}
	users := make([]account.User, 0, len(parts))
	for _, part := range parts {
		name, err := hex.DecodeString(part)
		if err != nil {
			return nil, ErrRecord
		}
		u, err := account.Parse(string(name))
		if err != nil {
			return nil, ErrRecord
		}
		users = append(users, u)
	}
	want, err := Encode(id, users, mac)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(want, b) {
		return nil, ErrRecord
	}
	return users, nil
}
