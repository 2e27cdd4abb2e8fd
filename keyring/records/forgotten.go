package records

import (
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// Forgotten says that all keys of a user were destroyed on purpose (FORMAT.md K18).
type Forgotten struct {
	User        account.User
	Salt        [UserSaltSize]byte // of the record that was destroyed
	Enrolled    time.Time          // when that record began
	At          time.Time
	By          string // who did it, at most 128 bytes
	Slots       int    // how many there were, as the following
	ContentKeys int
	Deliveries  int
}

const (
	formatForgotten  = "mailcryptfs forgotten user"
	forgottenName    = "forgotten.toml"
	maxForgottenSize = 8 << 10 // bytes
)

// ParseForgotten reads the record of a forgotten user (FORMAT.md K9, K18). Errors as ParseUser.
func ParseForgotten(b []byte, mac *secret.Key) (*Forgotten, error) {
	if err := open(b, formatForgotten, maxForgottenSize, mac); err != nil {
		return nil, err
	}
	t := parseTable(b)
	f := &Forgotten{
		User: t.user(), Enrolled: t.time("enrolled"), At: t.time("forgotten"), By: t.text("forgotten_by", maxLabel),
		Slots: int(t.integer("slots", 0, math.MaxInt32)), ContentKeys: int(t.integer("content_keys", 0, math.MaxInt32)),
		Deliveries: int(t.integer("delivery_keys", 0, math.MaxInt32)),
	}
	t.hex("salt", f.Salt[:])
	if err := t.done(); err != nil {
		return nil, err
	}
	return f, nil
}

// Encode returns the record with its MAC. It refuses what ParseForgotten would refuse. Error: secret.ErrWiped.
func (f *Forgotten) Encode(mac *secret.Key) ([]byte, error) {
	b := beginBody(formatForgotten)
	putUser(b, f.User)
	putHex(b, "salt", f.Salt[:])
	putTime(b, "enrolled", f.Enrolled)
	putTime(b, "forgotten", f.At)
	putText(b, "forgotten_by", f.By)
	putInt(b, "slots", int64(f.Slots))
	putInt(b, "content_keys", int64(f.ContentKeys))
	putInt(b, "delivery_keys", int64(f.Deliveries))
	sealed, err := seal(b.Bytes(), formatForgotten, maxForgottenSize, mac)
	if err != nil {
		return nil, err
	}
	if _, err := ParseForgotten(sealed, mac); err != nil {
		return nil, fmt.Errorf("cannot encode the record of a forgotten user: %w", err)
	}
	return sealed, nil
}

// Forgotten reads the record that says that the user was forgotten. Errors as Read; ErrNotFound if he never was.
func (d *Dir) Forgotten(u account.User) (*Forgotten, error) {
	dir, err := d.openUser(u)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return d.readForgotten(dir, u)
}

func (d *Dir) readForgotten(dir *os.File, u account.User) (*Forgotten, error) {
	path := d.userPath(u, forgottenName)
	b, err := readAt(dir, forgottenName, maxForgottenSize)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f, err := ParseForgotten(b, d.mac)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if f.User != u {
		return nil, fmt.Errorf("%s: %w", path, corrupt("it is the record of user %q", f.User))
	}
	return f, nil
}

// Forget destroys every key of the user. From the moment that the record of it is written, which is the first step and
// atomic, his key record counts as gone; when a later step fails the user is forgotten all the same, and Forget can be
// called again to finish the work. It returns ErrNotFound if the user has no key record and nothing is left to destroy.
// by is at most 128 bytes of UTF-8.
func (h *Home) Forget(by string, now time.Time) (*Forgotten, error) {
	ids, err := h.d.Deliveries(h.user)
	if err != nil {
		return nil, err
	}
	loaded, err := h.Read()
	if errors.Is(err, ErrNotFound) {
		return h.finishForget(ids)
	}
	f := &Forgotten{User: h.user, At: now.UTC().Truncate(time.Second), By: by, Deliveries: len(ids)}
	switch {
	case err == nil:
		f.Salt, f.Enrolled, f.Slots, f.ContentKeys = loaded.Salt, loaded.Created, len(loaded.Slots), len(loaded.ContentKeys)
	case !errors.Is(err, ErrCorrupt): // a damaged record opens nothing, and can be destroyed nevertheless
		return nil, err
	}
	b, err := f.Encode(h.d.mac)
	if err != nil {
		return nil, err
	}
	if err := h.d.replace(h.dir, forgottenName, b); err != nil {
		return nil, err
	}
	return f, h.destroyAll(ids)
}

// finishForget does what an interrupted Forget left undone.
func (h *Home) finishForget(ids []secret.ID) (*Forgotten, error) {
	f, err := h.d.readForgotten(h.dir, h.user)
	if err != nil {
		return nil, err
	}
	left, err := h.keyFiles()
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 && len(left) == 0 {
		return nil, ErrNotFound
	}
	return f, h.destroyAll(ids)
}

// keyFiles lists the files of the user that hold keys, delivery keys aside.
func (h *Home) keyFiles() ([]string, error) {
	var found []string
	for _, name := range []string{recordName, tempOf(recordName), previousName, tempOf(previousName), usedName} {
		stamp, err := stampAt(h.dir, name)
		if err != nil {
			return nil, err
		}
		if stamp != (Stamp{}) {
			found = append(found, name)
		}
	}
	return found, nil
}

func (h *Home) destroyAll(ids []secret.ID) error {
	names, err := h.keyFiles()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := h.destroy(h.dir, name); err != nil {
			return err
		}
	}
	if err := h.d.step("sync directory", recordName, h.dir.Sync); err != nil {
		return err
	}
	return h.DestroyDelivery(ids...)
}

// covers tells whether the record is the one that was destroyed: it has no meaning any more. A nil f covers none.
func (f *Forgotten) covers(rec *User) bool { return f != nil && f.Salt == rec.Salt }

// tempOf is the temporary name under which a file is written.
func tempOf(name string) string { return "." + name + ".tmp" }
