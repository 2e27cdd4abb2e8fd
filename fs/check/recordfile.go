package check

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// openDir opens a directory of key records and checks owner and mode (K7).
func (k *recordsRun) openDir(parent *backing.Dir, name, path string, u account.User) (*backing.Dir, error) {
	dir, err := parent.OpenDir(name)
	if err != nil {
		return nil, err
	}
	if st, err := dir.StatSelf(); err == nil {
		k.access(&st, path, u)
	}
	return dir, nil
}

// read reads a key record and checks its owner and mode (K7).
func (k *recordsRun) read(dir *backing.Dir, name, path string, u account.User) ([]byte, error) {
	if st, err := dir.Stat(name); err == nil {
		k.access(&st, path, u)
	}
	b, err := readFile(dir, name)
	if err == nil && !k.quiet {
		k.tally.add(func(s *Summary) { s.Records++ })
	}
	return b, err
}

func (k *recordsRun) access(st *backing.Stat, path string, u account.User) {
	f := Finding{Kind: RecordAccess, Store: path, User: string(u)}
	if st.UID != 0 && int64(st.UID) != int64(os.Geteuid()) {
		f.Detail = fmt.Sprintf("it belongs to uid %d, not to root", st.UID)
		k.found(f)
	}
	if st.Mode&0o077 != 0 && st.Type() != unix.S_IFLNK {
		f.Detail = fmt.Sprintf("it is open to others (mode %04o)", st.Mode&0o7777)
		k.found(f)
	}
}

// readFile reads a regular file of at most the size of the largest record.
func readFile(dir *backing.Dir, name string) ([]byte, error) {
	f, err := dir.Open(name, unix.O_RDONLY|unix.O_NOATIME)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
		return nil, errNotRegular
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Type() != unix.S_IFREG {
		return nil, errNotRegular
	}
	b := make([]byte, min(st.Size, maxRecord+1))
	n, err := f.ReadAt(b, 0)
	if err != nil && n == 0 && len(b) > 0 {
		return nil, err
	}
	return b[:n], nil
}
