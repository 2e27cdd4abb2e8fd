package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"filippo.io/age"

	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
)

// escrowName is the copy of the site secret in the store that recovery keys open (FORMAT.md K23).
const escrowName = "site.age"

// maxEscrow is the size of the largest escrow that is read, in bytes.
const maxEscrow = 1 << 20

// escrowSite writes the copy of the site secret, atomically. The secret stays the caller's.
func escrowSite(store string, siteSecret []byte, to []recovery.Recipient) (err error) {
	file, err := recovery.SealSite(siteSecret, to)
	if err != nil {
		return err
	}
	// Below the directory itself: nobody can put a symbolic link in its place meanwhile.
	dir, err := os.OpenRoot(filepath.Join(store, records.DirName))
	if err != nil {
		return fmt.Errorf("cannot escrow the site secret: %w", err)
	}
	defer dir.Close()
	const temp = "." + escrowName // a name that begins with . has no meaning (FORMAT.md K7)
	if err := dir.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot escrow the site secret: %w", err)
	}
	f, err := dir.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("cannot escrow the site secret: %w", err)
	}
	_, err = f.Write(file)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = dir.Rename(temp, escrowName)
	}
	if err != nil {
		return fmt.Errorf("cannot escrow the site secret: %w", errors.Join(err, dir.Remove(temp)))
	}
	return syncDir(filepath.Join(store, records.DirName))
}

// openEscrow returns the 32 bytes of the site secret from its copy in the store; the caller wipes them. Errors:
// recovery.ErrNoMatch, recovery.ErrEscrow, and those of the file.
func openEscrow(store string, ids []age.Identity) ([]byte, error) {
	path := filepath.Join(store, records.DirName, escrowName)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("the store has no copy of the site secret (%s)", path)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the copy of the site secret: %w", err)
	}
	defer f.Close()
	file, err := io.ReadAll(io.LimitReader(f, maxEscrow))
	if err != nil {
		return nil, fmt.Errorf("cannot read the copy of the site secret: %w", err)
	}
	b, err := recovery.OpenSite(file, ids)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}
