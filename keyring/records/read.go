package records

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// Stamp tells whether a user's record was changed since it was read. Stamps are compared with ==.
type Stamp struct {
	ino          uint64
	size         int64
	mtime, ctime unix.Timespec
}

// Loaded is a user's record as it was found.
type Loaded struct {
	*User
	Stamp Stamp // of the file when it was read, or just before; zero with a Warning
	// Warning is set when the record is damaged or missing and the previous version was taken in its place (FORMAT.md
	// K13). It says how to mend that. The device may have failed once only: whoever needs the record reads it again.
	Warning error
}

// Read reads the record of the user. Errors: ErrNotFound if the user was never enrolled, ErrUnsupported, ErrCorrupt,
// secret.ErrWiped, and what the system says.
func (d *Dir) Read(u account.User) (Loaded, error) {
	dir, err := d.openUser(u)
	if err != nil {
		return Loaded{}, err
	}
	defer dir.Close()
	return d.read(dir, u)
}

func (d *Dir) read(dir *os.File, u account.User) (Loaded, error) {
	stamp, err := stampAt(dir, recordName)
	if err != nil {
		return Loaded{}, fmt.Errorf("%s: %w", d.userPath(u, recordName), err)
	}
	// One that cannot be read says nothing; whoever can remove it can put the old record back as well (K14).
	gone, _ := d.readForgotten(dir, u)
	rec, err := d.readRecord(dir, u, recordName, gone)
	if err == nil {
		return Loaded{User: rec, Stamp: stamp}, nil
	}
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNotFound) {
		return Loaded{}, err
	}
	prev, prevErr := d.readRecord(dir, u, previousName, gone)
	switch {
	case prevErr == nil:
		warning := fmt.Errorf("%w; using %s of %s instead: restore the record from a backup, or change it (mailcryptfs passwd), which writes it anew",
			err, previousName, prev.Created.Format("2006-01-02"))
		return Loaded{User: prev, Warning: warning}, nil
	case errors.Is(err, ErrNotFound) && errors.Is(prevErr, ErrNotFound):
		return Loaded{}, ErrNotFound
	case errors.Is(err, ErrNotFound):
		// Not the same as never enrolled: there was a record once.
		return Loaded{}, prevErr
	}
	return Loaded{}, err
}

// readRecord reads one version of the record and checks that it is this user's, and not one that was forgotten.
func (d *Dir) readRecord(dir *os.File, u account.User, name string, gone *Forgotten) (*User, error) {
	path := d.userPath(u, name)
	b, err := readAt(dir, name, maxUserSize)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	rec, err := ParseUser(b, d.mac)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if rec.User != u {
		return nil, fmt.Errorf("%s: %w", path, corrupt("it is the record of user %q", rec.User))
	}
	if gone.covers(rec) {
		return nil, fmt.Errorf("%s: %w: it was forgotten", path, ErrNotFound)
	}
	return rec, nil
}

// Stamp returns what Read would return as Stamp now. It costs two system calls.
func (d *Dir) Stamp(u account.User) (Stamp, error) {
	dir, err := d.openUser(u)
	if err != nil {
		return Stamp{}, err
	}
	defer dir.Close()
	return stampAt(dir, recordName)
}

// stampAt returns the zero stamp for a file that is not there.
func stampAt(dir *os.File, name string) (Stamp, error) {
	var st unix.Stat_t
	err := again(func() error { return unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if errors.Is(err, unix.ENOENT) {
		return Stamp{}, nil
	}
	if err != nil {
		return Stamp{}, err
	}
	return Stamp{st.Ino, st.Size, st.Mtim, st.Ctim}, nil
}

// Delivery reads one delivery key of the user. Errors as Read; ErrNotFound if there is none of that name.
func (d *Dir) Delivery(u account.User, id secret.ID) (*Delivery, error) {
	dir, err := d.openDelivery(u)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	name := id.String() + ".toml"
	path := d.userPath(u, deliveryName, name)
	b, err := readAt(dir, name, maxDeliverySize)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	rec, err := ParseDelivery(b, d.mac)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if rec.User != u || rec.ID != id {
		return nil, fmt.Errorf("%s: %w", path, corrupt("it is delivery key %s of user %q", rec.ID, rec.User))
	}
	return rec, nil
}

// Deliveries lists the names of all delivery keys of the user, in no order. Files with other names are left out.
func (d *Dir) Deliveries(u account.User) ([]secret.ID, error) {
	dir, err := d.openDelivery(u)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("cannot list delivery keys: %w", err)
	}
	var ids []secret.ID
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, ".toml")
		if id, err := secret.ParseID(digits); ok && err == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func (d *Dir) openDelivery(u account.User) (*os.File, error) {
	dir, err := d.openUser(u)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	f, err := openDirAt(int(dir.Fd()), deliveryName, d.userPath(u, deliveryName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNotFound
	}
	return f, err
}

// Enrolled tells whether the user has a record, whole or not.
func (d *Dir) Enrolled(u account.User) (bool, error) {
	dir, err := d.openUser(u)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer dir.Close()
	for _, name := range []string{recordName, previousName} {
		stamp, err := stampAt(dir, name)
		if err != nil {
			return false, err
		}
		if stamp == (Stamp{}) {
			continue
		}
		gone, err := stampAt(dir, forgottenName)
		if err != nil || gone == (Stamp{}) {
			return err == nil, err
		}
		_, err = d.read(dir, u)
		return !errors.Is(err, ErrNotFound), nil
	}
	return false, nil
}

// Resolve returns the user that an escaped name stands for. Those that are hashes are looked up in the record. Errors:
// account.ErrEscaped, and as Read.
func (d *Dir) Resolve(escaped string) (account.User, error) {
	u, err := account.Unescape(escaped)
	if !errors.Is(err, account.ErrHashed) {
		return u, err
	}
	dir, err := openDirAt(int(d.users.Fd()), escaped, escaped)
	if errors.Is(err, os.ErrNotExist) {
		return "", ErrNotFound
	}
	if err != nil {
		return "", err
	}
	defer dir.Close()
	err = ErrNotFound
	for _, name := range []string{recordName, previousName, forgottenName} {
		b, readErr := readAt(dir, name, maxUserSize)
		if errors.Is(readErr, os.ErrNotExist) {
			continue
		}
		if readErr != nil {
			err = readErr
			continue
		}
		u, parseErr := d.userOf(b, name)
		switch {
		case parseErr != nil:
			err = parseErr
		case u.Escape() != escaped:
			err = corrupt("it is the record of user %q", u)
		default:
			return u, nil
		}
	}
	return "", fmt.Errorf("%s: %w", escaped, err)
}

// userOf returns whose record it is.
func (d *Dir) userOf(b []byte, name string) (account.User, error) {
	if name == forgottenName {
		f, err := ParseForgotten(b, d.mac)
		if err != nil {
			return "", err
		}
		return f.User, nil
	}
	rec, err := ParseUser(b, d.mac)
	if err != nil {
		return "", err
	}
	return rec.User, nil
}

// Users lists the users who have a record, in no order, and what is wrong with entries that are not a user's.
func (d *Dir) Users() (users []account.User, problems []error, err error) {
	// A descriptor of its own, because the position in a directory is shared.
	dir, err := openDirAt(int(d.users.Fd()), ".", d.users.Name())
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot list users: %w", err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, ".") {
			continue
		}
		u, err := d.Resolve(name)
		if err == nil {
			var enrolled bool
			if enrolled, err = d.Enrolled(u); err == nil && enrolled {
				users = append(users, u)
			}
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s/%s: %w", d.users.Name(), name, err))
		}
	}
	return users, problems, nil
}
