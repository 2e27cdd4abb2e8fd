package records

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// DirName is the directory of key records in the root of a store (FORMAT.md K7).
const DirName = ".mailcryptfs"

const (
	usersName    = "users"
	storeName    = "store.toml"
	recordName   = "record.toml"
	previousName = "record.prev.toml"
	deliveryName = "delivery"
	lockName     = ".lock"
)

// Dir is the directory of key records of one store. Every path below it is resolved from its descriptor, one component
// at a time and never through a symbolic link: others may be able to write to the store. Safe for concurrent use.
type Dir struct {
	path  string
	root  *os.File
	users *os.File
	mac   *secret.Key
	store Store

	// trace is called before each step of a write; tests let one fail, or look at the order. Nil otherwise.
	trace func(step, name string) error
}

// Open opens the key records of the store, which must have been set up under this site secret (FORMAT.md K12). Errors
// name path and remedy: ErrNotFound (not set up), ErrMAC (another site secret), ErrCorrupt, ErrUnsupported. mac stays
// the caller's.
func Open(store string, mac *secret.Key) (*Dir, error) {
	d, err := openDirs(store, mac)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: the store is not set up, see mailcryptfs setup", filepath.Join(store, DirName), ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	if err := d.readStore(); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// Create sets up the key records of a store. It returns ErrExists if that was done before, and otherwise picks up where
// an interrupted Create ended.
func Create(store string, mac *secret.Key, now time.Time) (*Dir, error) {
	for _, dir := range []string{DirName, filepath.Join(DirName, usersName)} {
		path := filepath.Join(store, dir)
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("cannot set up the store: %w", err)
		}
		if err := syncPath(filepath.Dir(path)); err != nil {
			return nil, fmt.Errorf("cannot set up the store: %w", err)
		}
	}
	d, err := openDirs(store, mac)
	if err != nil {
		return nil, err
	}
	if err := d.createStore(now); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func openDirs(store string, mac *secret.Key) (*Dir, error) {
	d := &Dir{path: filepath.Join(store, DirName), mac: mac}
	var err error
	if d.root, err = openDirAt(unix.AT_FDCWD, d.path, d.path); err != nil {
		return nil, err
	}
	usersPath := filepath.Join(d.path, usersName)
	if d.users, err = openDirAt(int(d.root.Fd()), usersName, usersPath); err != nil {
		return nil, errors.Join(err, d.root.Close())
	}
	for _, f := range []*os.File{d.root, d.users} {
		if err := checkPrivate(f); err != nil {
			d.Close()
			return nil, err
		}
	}
	return d, nil
}

// checkPrivate refuses a directory that others could take records out of or put older ones into.
func checkPrivate(f *os.File) error {
	var st unix.Stat_t
	if err := again(func() error { return unix.Fstat(int(f.Fd()), &st) }); err != nil {
		return fmt.Errorf("cannot look at %s: %w", f.Name(), err)
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is owned by uid %d: chown root %s", f.Name(), st.Uid, f.Name())
	}
	if st.Mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o: chmod 0700 %s", f.Name(), st.Mode&0o7777, f.Name())
	}
	return nil
}

func (d *Dir) readStore() error {
	path := filepath.Join(d.path, storeName)
	b, err := readAt(d.root, storeName, maxStoreSize)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: %w: restore it from a backup of the store, or see mailcryptfs setup", path, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	s, err := ParseStore(b, d.mac)
	if errors.Is(err, ErrMAC) {
		return fmt.Errorf("%s: %w: the store belongs to another site secret, or its record was changed", path, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	d.store = *s
	return nil
}

func (d *Dir) createStore(now time.Time) error {
	unlock, err := lockDir(d.root)
	if err != nil {
		return err
	}
	defer unlock()
	path := filepath.Join(d.path, storeName)
	stamp, err := stampAt(d.root, storeName)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if stamp != (Stamp{}) {
		return fmt.Errorf("%s: %w", path, ErrExists)
	}
	d.store = Store{Created: now.UTC().Truncate(time.Second)}
	_, _ = rand.Read(d.store.ID[:]) // never fails
	b, err := d.store.Encode(d.mac)
	if err != nil {
		return err
	}
	return d.replace(d.root, storeName, b)
}

// Store returns the store record.
func (d *Dir) Store() Store { return d.store }

// Close closes the descriptors. Nobody may use the Dir any more.
func (d *Dir) Close() {
	_ = d.root.Close()
	_ = d.users.Close()
}

// userPath is where a file of the user lies, for messages.
func (d *Dir) userPath(u account.User, elem ...string) string {
	return filepath.Join(append([]string{d.path, usersName, u.Escape()}, elem...)...)
}

// openUser opens the directory of the user, or returns ErrNotFound.
func (d *Dir) openUser(u account.User) (*os.File, error) {
	f, err := openDirAt(int(d.users.Fd()), u.Escape(), d.userPath(u))
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNotFound
	}
	return f, err
}
