package check

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
)

// Small records about a user, which hold no keys (FORMAT.md K15, K18, K19).
const (
	plainName     = "plain.toml"
	usedName      = "used.toml"
	forgottenName = "forgotten.toml"
)

// note checks one of the small records; of forgotten.toml it returns whether it is whole: then the user has no record on
// purpose.
func (d *userDir) note(name string) (forgotten bool) {
	b, err := d.read(d.dir, name, join(d.path, name), d.user)
	if errors.Is(err, unix.ENOENT) {
		return false // removed meanwhile
	}
	var u account.User
	if err == nil {
		u, err = d.noteUser(b, name)
	}
	f := Finding{Kind: RecordDamaged, Store: join(d.path, name), User: string(d.user)}
	switch {
	case errors.Is(err, records.ErrUnsupported):
		f.Kind, f.Detail = RecordUnsupported, err.Error()
	case err != nil:
		f.Detail = reason(err)
	case u.Escape() != d.name:
		d.authentic++
		f.Detail = fmt.Sprintf("it is the record of %q", u)
	default:
		d.authentic++
		return name == forgottenName
	}
	d.found(f)
	return false
}

// noteUser parses a small record and returns whose it is.
func (d *userDir) noteUser(b []byte, name string) (account.User, error) {
	mac := d.o.Site.RecordMAC
	switch name {
	case plainName:
		p, err := records.ParsePlain(b, mac)
		if err != nil {
			return "", err
		}
		return p.User, nil
	case usedName:
		u, err := records.ParseUsed(b, mac)
		if err != nil {
			return "", err
		}
		return u.User, nil
	}
	f, err := records.ParseForgotten(b, mac)
	if err != nil {
		return "", err
	}
	return f.User, nil
}
