package records

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// Used says when slots of a user were used last, to within a day (FORMAT.md K19). It is kept apart from the record, so
// that a login never needs to change that.
type Used struct {
	User account.User
	Last map[slot.ID]time.Time
}

const (
	formatUsed  = "mailcryptfs slot use"
	usedName    = "used.toml"
	maxUsedSize = 16 << 10 // bytes
)

// ParseUsed reads such a record (FORMAT.md K9, K19). Errors as ParseUser.
func ParseUsed(b []byte, mac *secret.Key) (*Used, error) {
	if err := open(b, formatUsed, maxUsedSize, mac); err != nil {
		return nil, err
	}
	t := parseTable(b)
	u := &Used{User: t.user(), Last: make(map[slot.ID]time.Time)}
	if t.has("use") {
		t.tables("use", MaxSlots, func(t *table) {
			var id slot.ID
			t.hex("id", id[:])
			u.Last[id] = t.time("last")
		})
	}
	if err := t.done(); err != nil {
		return nil, err
	}
	return u, nil
}

// Encode returns the record with its MAC. It refuses what ParseUsed would refuse. Error: secret.ErrWiped.
func (u *Used) Encode(mac *secret.Key) ([]byte, error) {
	b := beginBody(formatUsed)
	putUser(b, u.User)
	for _, id := range sortedIDs(u.Last) {
		b.WriteString("\n[[use]]\n")
		putHex(b, "id", id[:])
		putTime(b, "last", u.Last[id])
	}
	sealed, err := seal(b.Bytes(), formatUsed, maxUsedSize, mac)
	if err != nil {
		return nil, err
	}
	if _, err := ParseUsed(sealed, mac); err != nil {
		return nil, fmt.Errorf("cannot encode when slots were used: %w", err)
	}
	return sealed, nil
}

// Used reads when the user's slots were used. A record that is not there, or cannot be used, says nothing: the map is
// empty then, and never nil.
func (d *Dir) Used(u account.User) map[slot.ID]time.Time {
	none := make(map[slot.ID]time.Time)
	dir, err := d.openUser(u)
	if err != nil {
		return none
	}
	defer dir.Close()
	b, err := readAt(dir, usedName, maxUsedSize)
	if err != nil {
		return none
	}
	used, err := ParseUsed(b, d.mac)
	if err != nil || used.User != u {
		return none
	}
	return used.Last
}

// SetUsed writes when the user's slots were used.
func (h *Home) SetUsed(last map[slot.ID]time.Time) error {
	b, err := (&Used{User: h.user, Last: last}).Encode(h.d.mac)
	if err != nil {
		return err
	}
	return h.d.replace(h.dir, usedName, b)
}

func sortedIDs(last map[slot.ID]time.Time) []slot.ID {
	return slices.SortedFunc(maps.Keys(last), func(a, b slot.ID) int { return bytes.Compare(a[:], b[:]) })
}
