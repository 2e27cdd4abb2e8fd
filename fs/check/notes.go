package check

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// Small records about a user, which hold no keys (FORMAT.md K15, K18, K19).
const (
	plainName     = "plain.toml"
	usedName      = "used.toml"
	forgottenName = "forgotten.toml"
)

// note checks one of the small records.
func (d *userDir) note(name string) {
	u, err := read(d.recordsRun, d.dir, name, join(d.path, name), d.user, userOf(name))
	if errors.Is(err, unix.ENOENT) {
		return // removed meanwhile
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
		return
	}
	d.found(f)
}

// userOf parses the small record of this name and tells whose it is.
func userOf(name string) parser[account.User] {
	return func(b []byte, mac *secret.Key) (account.User, error) {
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
}

// forgotten returns the record that says that the user has none on purpose, if there is one that counts. It is written
// before anything is destroyed (K18): who looks after he missed a record finds it.
func (d *userDir) forgotten() (*records.Forgotten, bool) {
	f, err := parseFile(d.dir, forgottenName, d.o.Site.RecordMAC, records.ParseForgotten)
	return f, err == nil && f.User.Escape() == d.name
}
