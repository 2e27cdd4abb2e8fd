package records

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// Plain says that a user's tree was turned into plain files and shall stay so (FORMAT.md K15).
type Plain struct {
	User    account.User
	Created time.Time
}

const (
	formatPlain  = "mailcryptfs plain tree"
	plainName    = "plain.toml"
	maxPlainSize = 8 << 10 // bytes
)

// ParsePlain reads a plain-tree record (FORMAT.md K9, K15). Errors as ParseUser.
func ParsePlain(b []byte, mac *secret.Key) (*Plain, error) {
	if err := open(b, formatPlain, maxPlainSize, mac); err != nil {
		return nil, err
	}
	t := parseTable(b)
	p := &Plain{User: t.user(), Created: t.time("created")}
	if err := t.done(); err != nil {
		return nil, err
	}
	return p, nil
}

// Encode returns the record with its MAC. Error: secret.ErrWiped.
func (p *Plain) Encode(mac *secret.Key) ([]byte, error) {
	b := beginBody(formatPlain)
	putUser(b, p.User)
	putTime(b, "created", p.Created)
	return seal(b.Bytes(), formatPlain, maxPlainSize, mac)
}

// Plain reads the plain-tree record of the user. Errors as Read; ErrNotFound if there is none.
func (d *Dir) Plain(u account.User) (*Plain, error) {
	dir, err := d.openUser(u)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	path := d.userPath(u, plainName)
	b, err := readAt(dir, plainName, maxPlainSize)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	p, err := ParsePlain(b, d.mac)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if p.User != u {
		return nil, fmt.Errorf("%s: %w", path, corrupt("it is the record of user %q", p.User))
	}
	return p, nil
}

// SetPlain writes the plain-tree record of the user; it is durable when SetPlain returns.
func (h *Home) SetPlain(now time.Time) error {
	p := Plain{User: h.user, Created: now.UTC().Truncate(time.Second)}
	b, err := p.Encode(h.d.mac)
	if err != nil {
		return err
	}
	return h.d.replace(h.dir, plainName, b)
}

// RemovePlain removes the plain-tree record durably. Removing one that is not there is no error.
func (h *Home) RemovePlain() error {
	if err := unlinkAt(h.dir, plainName); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("cannot remove %s: %w", h.d.userPath(h.user, plainName), err)
	}
	return h.dir.Sync()
}
