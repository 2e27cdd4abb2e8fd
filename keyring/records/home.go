package records

import (
	"errors"
	"fmt"
	"os"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// Home is the locked directory of one user: whoever has it is the only one, in all processes and on all hosts, who
// changes what lies there. Not for concurrent use. Release it soon: deliveries to a locked user wait for it.
type Home struct {
	d      *Dir
	user   account.User
	dir    *os.File
	unlock func()
}

// Lock waits for the lock of the user's directory. It returns ErrNotFound if there is none; with create, it is made.
func (d *Dir) Lock(u account.User, create bool) (*Home, error) {
	if create {
		if err := d.mkdir(d.users, u.Escape()); err != nil {
			return nil, err
		}
	}
	dir, err := d.openUser(u)
	if err != nil {
		return nil, err
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return &Home{d: d, user: u, dir: dir, unlock: unlock}, nil
}

// Release gives the lock back.
func (h *Home) Release() {
	h.unlock()
	_ = h.dir.Close()
}

// Stamp is Dir.Stamp under the lock.
func (h *Home) Stamp() (Stamp, error) { return stampAt(h.dir, recordName) }

// Read is Dir.Read under the lock.
func (h *Home) Read() (Loaded, error) { return h.d.read(h.dir, h.user) }

// Create writes the first record of the user, with serial 1. It returns ErrExists if the user has one, whole or not:
// what is damaged may still be mended, and must not be overwritten.
func (h *Home) Create(rec *User) error {
	if err := h.clearForgotten(); err != nil {
		return err
	}
	for _, name := range []string{recordName, previousName} {
		stamp, err := stampAt(h.dir, name)
		if err != nil {
			return err
		}
		if stamp != (Stamp{}) {
			return fmt.Errorf("%s: %w", h.d.userPath(h.user, name), ErrExists)
		}
	}
	rec.Serial = 1
	return h.write(rec)
}

// Update reads the record, lets change work on it, and writes it with the next serial number; the record before that
// stays as the previous version (FORMAT.md K13). When change returns an error nothing is written. After an error of the
// last step the new record may or may not be in place; either way a whole one is.
func (h *Home) Update(change func(rec *User) error) error {
	loaded, err := h.Read()
	if err != nil {
		return err
	}
	// Encoded before it is changed; a damaged record never takes the place of the whole previous one.
	var old []byte
	if loaded.Warning == nil {
		if old, err = readAt(h.dir, recordName, maxUserSize); err != nil {
			return fmt.Errorf("%s: %w", h.d.userPath(h.user, recordName), err)
		}
	}
	rec := loaded.User
	if err := change(rec); err != nil {
		return err
	}
	rec.Serial++
	// Encoded before anything is written: a record that would be too large changes nothing.
	b, err := h.encode(rec)
	if err != nil {
		return err
	}
	if old != nil {
		if err := h.d.replace(h.dir, previousName, old); err != nil {
			return err
		}
	}
	return h.d.replace(h.dir, recordName, b)
}

// clearForgotten finishes an interrupted Forget, so that a user of the same name can be enrolled.
func (h *Home) clearForgotten() error {
	if _, err := h.Read(); !errors.Is(err, ErrNotFound) {
		return nil
	}
	ids, err := h.d.Deliveries(h.user)
	if err != nil {
		return err
	}
	if _, err := h.finishForget(ids); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}

func (h *Home) write(rec *User) error {
	b, err := h.encode(rec)
	if err != nil {
		return err
	}
	return h.d.replace(h.dir, recordName, b)
}

func (h *Home) encode(rec *User) ([]byte, error) {
	if rec.User != h.user {
		return nil, fmt.Errorf("the record of user %q does not belong to user %q", rec.User, h.user)
	}
	return rec.Encode(h.d.mac)
}

// AddDelivery writes a delivery key; it is durable when AddDelivery returns (FORMAT.md K11).
func (h *Home) AddDelivery(rec *Delivery) error {
	if rec.User != h.user {
		return fmt.Errorf("the delivery key of user %q does not belong to user %q", rec.User, h.user)
	}
	b, err := rec.Encode(h.d.mac)
	if err != nil {
		return err
	}
	if err := h.d.mkdir(h.dir, deliveryName); err != nil {
		return err
	}
	dir, err := openDirAt(int(h.dir.Fd()), deliveryName, h.d.userPath(h.user, deliveryName))
	if err != nil {
		return err
	}
	defer dir.Close()
	return h.d.replace(dir, rec.ID.String()+".toml", b)
}
