package records

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// EscrowName is the file in the directory of key records that holds the site secret, encrypted to recovery keys (FORMAT.md
// K23).
const EscrowName = "site.age"

const maxEscrowSize = 1 << 20 // bytes

// SetEscrow writes the escrow of the site secret; it is durable when SetEscrow returns, and whole at any time.
func (d *Dir) SetEscrow(content []byte) error {
	unlock, err := lockDir(d.root)
	if err != nil {
		return err
	}
	defer unlock()
	if len(content) > maxEscrowSize {
		return fmt.Errorf("the escrow of the site secret has %d bytes, at most %d are allowed", len(content), maxEscrowSize)
	}
	return d.replace(d.root, EscrowName, content)
}

// Escrow returns the escrow of the site secret of a store, for which nothing but the store is needed. Errors: ErrNotFound,
// ErrCorrupt (no regular file, or larger than 1 MiB), and what the system says.
func Escrow(store string) ([]byte, error) {
	path := filepath.Join(store, DirName)
	dir, err := openDirAt(unix.AT_FDCWD, path, path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	b, err := readAt(dir, EscrowName, maxEscrowSize)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", filepath.Join(path, EscrowName), ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(path, EscrowName), err)
	}
	return b, nil
}
