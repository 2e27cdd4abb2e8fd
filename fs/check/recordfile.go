package check

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
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

// parser tells what a key record says.
type parser[T any] func(b []byte, mac *secret.Key) (T, error)

// read reads a key record and checks its owner and mode (K7).
func read[T any](k *recordsRun, dir *backing.Dir, name, path string, u account.User, parse parser[T]) (T, error) {
	if st, err := dir.Stat(name); err == nil {
		k.access(&st, path, u)
	}
	had := false
	rec, err := parseFile(dir, name, k.o.Site.RecordMAC, func(b []byte, mac *secret.Key) (T, error) {
		had = true
		return parse(b, mac)
	})
	if had && !k.quiet {
		k.tally.add(func(s *Summary) { s.Records++ })
	}
	return rec, err
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

// parseFile reads a key record. What it says of a file that has lost its name counts for nothing: that is how keys are
// destroyed (K18), and it may be half overwritten. Then it reads what has the name now, if anything has.
func parseFile[T any](dir *backing.Dir, name string, mac *secret.Key, parse parser[T]) (T, error) {
	for try := 0; ; try++ {
		rec, current, err := parseOnce(dir, name, mac, parse)
		if err == nil || current || try == again {
			return rec, err
		}
	}
}

// parseOnce also says whether what could not be read had the name, or none had, when all was done.
func parseOnce[T any](dir *backing.Dir, name string, mac *secret.Key, parse parser[T]) (rec T, current bool, err error) {
	f, err := dir.Open(name, unix.O_RDONLY|unix.O_NOATIME)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
		return rec, true, errNotRegular
	}
	if err != nil {
		return rec, true, err
	}
	defer f.Close()
	b, err := readFile(f)
	if err == nil {
		rec, err = parse(b, mac)
	}
	if err == nil {
		return rec, true, nil
	}
	// While f is open, no other file gets its inode number.
	st, err1 := f.Stat()
	now, err2 := dir.Stat(name)
	if isGone(err2) {
		return rec, true, err2
	}
	return rec, err1 != nil || err2 != nil || now.Same(&st), err
}

// readFile reads a regular file of at most the size of the largest record.
func readFile(f *backing.File) ([]byte, error) {
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
