package check

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// userDir is a user's directory of key records.
type userDir struct {
	*recordsRun
	dir  *backing.Dir
	path string
	name string       // escaped user name
	user account.User // "" if nothing tells whose it is
}

// user checks the records of one user. The error is that of the context.
func (k *recordsRun) user(users *backing.Dir, name, path string, u account.User) error {
	dir, err := k.openDir(users, name, path, u)
	if errors.Is(err, unix.ENOTDIR) {
		k.other(path[:len(path)-len(name)-1], name, u)
		return nil
	}
	if err != nil {
		k.unreadable(Finding{Store: path, User: string(u)}, err)
		return nil
	}
	defer dir.Release()
	d := &userDir{k, dir, path, name, u}
	hasDelivery, kept := false, false
	err = k.list(dir, path, u, func(entry string) error {
		switch entry {
		case recordName, previousName:
		case deliveryName:
			hasDelivery = true
			return d.deliveries(join(path, entry))
		case plainName, usedName:
			kept = true
			d.note(entry)
		case forgottenName:
			d.note(entry)
		default:
			k.other(path, entry, u)
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.record(hasDelivery, kept)
	return nil
}

// record checks the user's record and the one before it (K10, K13). A user who was forgotten, or of whom there is but a
// small record, may have none.
func (d *userDir) record(hasDelivery, kept bool) {
	rec, err := d.readRecord(recordName)
	prev, prevErr := d.readRecord(previousName)
	missing, prevMissing := errors.Is(err, unix.ENOENT), errors.Is(prevErr, unix.ENOENT)
	f := Finding{Kind: RecordDamaged, Store: join(d.path, recordName), User: string(d.user)}
	if missing && (prevMissing || prevErr == nil) {
		if gone, ok := d.forgotten(); ok && (prevMissing || prev.Salt == gone.Salt) {
			return
		}
	}
	switch {
	case err == nil:
	case missing && prevMissing && kept && !hasDelivery:
		return
	case missing && prevMissing && !hasDelivery:
		f.Kind, f.Store, f.Detail = Leftover, d.path, "a directory without a record: an enrolment that was broken off"
		d.found(f)
		return
	case errors.Is(err, records.ErrUnsupported):
		f.Kind, f.Detail = RecordUnsupported, err.Error()
		d.found(f)
		d.keys.setBroken(d.user)
	default:
		f.Detail = reason(err) + "; " + fallback(prev, prevErr)
		d.found(f)
	}
	if prevErr != nil && !prevMissing {
		f = Finding{Kind: RecordDamaged, Store: join(d.path, previousName), User: string(d.user), Detail: reason(prevErr)}
		if errors.Is(prevErr, records.ErrUnsupported) {
			f.Kind = RecordUnsupported
		}
		d.found(f)
	}
	d.index(rec, prev, errors.Is(err, records.ErrUnsupported))
}

// fallback says what is left when the record is damaged.
func fallback(prev *records.User, err error) string {
	switch {
	case err == nil:
		return fmt.Sprintf("%s (serial %d) is whole and used in its place", previousName, prev.Serial)
	case errors.Is(err, unix.ENOENT):
		return "there is no " + previousName
	}
	return previousName + " cannot be used either"
}

// index notes the content keys of the record that counts and checks that those of an unlocked user open.
func (d *userDir) index(rec, prev *records.User, unsupported bool) {
	if rec == nil && !unsupported {
		rec = prev
	}
	if rec == nil {
		d.keys.setBroken(d.user)
		return
	}
	for i := range rec.ContentKeys {
		k := &rec.ContentKeys[i]
		d.keys.add(k.ID, keyInfo{user: rec.User, whole: true, current: k.State == records.Current, created: k.Created})
		if d.quiet || d.o.Keys == nil {
			continue
		}
		key, err := d.o.Keys.OpeningKey(rec.User, k.ID)
		if err == nil {
			d.keys.remember(keyOfUser{rec.User, k.ID}, answer{key: key})
		} else if errors.Is(err, slot.ErrSealed) {
			d.found(Finding{
				Kind: RecordDamaged, Store: join(d.path, recordName), User: string(rec.User),
				Detail: fmt.Sprintf("content key %s does not open with the user's identity", k.ID),
			})
		}
	}
}

func (d *userDir) readRecord(name string) (*records.User, error) {
	rec, err := read(d.recordsRun, d.dir, name, join(d.path, name), d.user, records.ParseUser)
	if err != nil {
		return nil, err
	}
	d.authentic++
	if rec.User.Escape() != d.name {
		return nil, fmt.Errorf("%w: it is the record of %q", records.ErrCorrupt, rec.User)
	}
	if _, err := slot.ParsePublic(rec.Public[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", records.ErrCorrupt, err)
	}
	return rec, nil
}

// deliveries checks the user's delivery keys (K11). The error is that of the context.
func (d *userDir) deliveries(path string) error {
	dir, err := d.openDir(d.dir, deliveryName, path, d.user)
	if err != nil {
		d.unreadable(Finding{Store: path, User: string(d.user)}, err)
		return nil
	}
	defer dir.Release()
	return d.list(dir, path, d.user, func(name string) error {
		if id, ok := idOf(name); ok {
			d.delivery(dir, join(path, name), name, id)
		} else {
			d.other(path, name, d.user)
		}
		return nil
	})
}

func (d *userDir) delivery(dir *backing.Dir, path, name string, id secret.ID) {
	info := keyInfo{user: d.user, delivery: true}
	rec, err := read(d.recordsRun, dir, name, path, d.user, records.ParseDelivery)
	if errors.Is(err, unix.ENOENT) {
		return // the daemon has destroyed it meanwhile
	}
	f := Finding{Kind: DeliveryDamaged, Store: path, User: string(d.user)}
	switch {
	case errors.Is(err, records.ErrUnsupported):
		f.Kind, f.Detail = RecordUnsupported, err.Error()
		d.found(f)
	case err != nil:
		f.Detail = reason(err)
		d.found(f)
	case rec.User.Escape() != d.name || rec.ID != id:
		d.authentic++
		f.Detail = fmt.Sprintf("it is delivery key %s of %q", rec.ID, rec.User)
		d.found(f)
	default:
		d.authentic++
		info.user, info.whole, info.created = rec.User, true, rec.Created
	}
	d.keys.add(id, info)
}
