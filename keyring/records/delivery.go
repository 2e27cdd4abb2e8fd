package records

import (
	"fmt"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// ParseDelivery reads a delivery key record (FORMAT.md K9, K11). Errors as ParseUser. Whether it lies where it belongs
// is for Dir to judge.
func ParseDelivery(b []byte, mac *secret.Key) (*Delivery, error) {
	if err := open(b, formatDelivery, maxDeliverySize, mac); err != nil {
		return nil, err
	}
	t := parseTable(b)
	d := &Delivery{User: t.user()}
	t.hex("id", d.ID[:])
	d.Created = t.time("created")
	d.Sealed = t.base64("sealed", slot.SealedSize)
	if err := t.done(); err != nil {
		return nil, err
	}
	return d, nil
}

// Encode returns the record with its MAC. It refuses what ParseDelivery would refuse. Error: secret.ErrWiped.
func (d *Delivery) Encode(mac *secret.Key) ([]byte, error) {
	b := beginBody(formatDelivery)
	putUser(b, d.User)
	putHex(b, "id", d.ID[:])
	putTime(b, "created", d.Created)
	putBase64(b, "sealed", d.Sealed)
	sealed, err := seal(b.Bytes(), formatDelivery, maxDeliverySize, mac)
	if err != nil {
		return nil, err
	}
	if _, err := ParseDelivery(sealed, mac); err != nil {
		return nil, fmt.Errorf("cannot encode a delivery key: %w", err)
	}
	return sealed, nil
}

// ParseStore reads a store record (FORMAT.md K9, K12). Errors as ParseUser.
func ParseStore(b []byte, mac *secret.Key) (*Store, error) {
	if err := open(b, formatStore, maxStoreSize, mac); err != nil {
		return nil, err
	}
	t := parseTable(b)
	s := new(Store)
	t.hex("id", s.ID[:])
	s.Created = t.time("created")
	if err := t.done(); err != nil {
		return nil, err
	}
	return s, nil
}

// Encode returns the record with its MAC. Error: secret.ErrWiped.
func (s *Store) Encode(mac *secret.Key) ([]byte, error) {
	b := beginBody(formatStore)
	putHex(b, "id", s.ID[:])
	putTime(b, "created", s.Created)
	return seal(b.Bytes(), formatStore, maxStoreSize, mac)
}
