package keyring

import (
	"errors"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
)

// KeepPlain notes durably, for every daemon of the store, whether the tree of the user, enrolled or not, shall stay as
// plain files (FORMAT.md K15).
func (r *Ring) KeepPlain(u account.User, keep bool) error {
	home, err := r.records.Lock(u, keep)
	if errors.Is(err, records.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer home.Release()
	if keep {
		return home.SetPlain(r.o.Now())
	}
	return home.RemovePlain()
}

// KeptPlain reports whether KeepPlain was told so. A record that cannot be used counts as none, and is the error.
func (r *Ring) KeptPlain(u account.User) (bool, error) {
	_, err := r.records.Plain(u)
	if errors.Is(err, records.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
