// Package tmpfs is the keyring directory: one small file per unlocked user in memory, never on a disk (FORMAT.md R1, R3).
// Whether the directory and its entries are what they must be is judged on open descriptors, not on paths.
package tmpfs

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// MaxEntry is the size of the largest entry in bytes (FORMAT.md R1).
const MaxEntry = 512

var (
	// ErrDir says that the keyring directory is not what it must be; the text names it and the remedy.
	ErrDir = errors.New("refusing the keyring directory")
	// ErrEntry says that an entry is not what it must be; the text names it and the reason.
	ErrEntry = errors.New("refusing the keyring entry")
	// ErrNotFound says that there is no entry of that name.
	ErrNotFound = errors.New("no keyring entry")
)

// Dir is an open keyring directory. Safe for concurrent use.
type Dir struct {
	path string
	f    *os.File
}

// Open opens the keyring directory and checks it: tmpfs or ramfs, owned by root, mode 0700, not a symbolic link. Error:
// ErrDir with the remedy.
func Open(path string) (*Dir, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	switch {
	case errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP):
		return nil, fmt.Errorf("%w %s: it is a symbolic link or a file: name the directory itself", ErrDir, path)
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%w %s: it does not exist: make it on a tmpfs, as below /run, with mode 0700", ErrDir, path)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrDir, err)
	}
	d := &Dir{path: path, f: f}
	if err := d.Check(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return d, nil
}

// Check looks at the open directory once more: somebody may have changed it since. It also notices that the directory
// was removed. Error: ErrDir with the remedy.
func (d *Dir) Check() error {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := unix.Fstatfs(int(d.f.Fd()), &fs); err != nil {
		return fmt.Errorf("%w %s: %w", ErrDir, d.path, err)
	}
	if err := unix.Fstat(int(d.f.Fd()), &st); err != nil {
		return fmt.Errorf("%w %s: %w", ErrDir, d.path, err)
	}
	switch {
	case fs.Type != unix.TMPFS_MAGIC && fs.Type != unix.RAMFS_MAGIC:
		return fmt.Errorf("%w %s: it does not lie in memory: use a directory on tmpfs or ramfs, as below /run", ErrDir, d.path)
	case st.Uid != 0:
		return fmt.Errorf("%w %s: it is owned by uid %d: chown root %s", ErrDir, d.path, st.Uid, d.path)
	case st.Mode&0o7777 != 0o700:
		return fmt.Errorf("%w %s: it has mode %04o: chmod 0700 %s", ErrDir, d.path, st.Mode&0o7777, d.path)
	case st.Nlink == 0:
		return fmt.Errorf("%w %s: it was removed: make it again and restart", ErrDir, d.path)
	}
	return nil
}

// Path returns the path that was opened, for messages.
func (d *Dir) Path() string { return d.path }

// FD returns the descriptor, valid until Close.
func (d *Dir) FD() int { return int(d.f.Fd()) }

// Close closes the directory. Entries stay.
func (d *Dir) Close() error { return d.f.Close() }

// Write puts an entry in place by a rename, so that nobody ever reads a part of it. content stays the caller's to wipe.
func (d *Dir) Write(name string, content []byte) error {
	if err := checkName(name); err != nil {
		return err
	}
	if len(content) > MaxEntry {
		return fmt.Errorf("%w %s: %d bytes are too many", ErrEntry, name, len(content))
	}
	var random [8]byte
	_, _ = rand.Read(random[:])                     // never fails
	temp := ".new-" + hex.EncodeToString(random[:]) // no meaning for readers (R1)
	err := d.writeTemp(temp, content)
	if err == nil {
		err = unix.Renameat(d.FD(), temp, d.FD(), name)
	}
	if err != nil {
		_ = unix.Unlinkat(d.FD(), temp, 0)
		return fmt.Errorf("cannot write keyring entry %s: %w", d.entry(name), err)
	}
	return nil
}

func (d *Dir) writeTemp(temp string, content []byte) error {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(d.FD(), temp, flags, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), temp)
	// Not what the umask made of it.
	err = f.Chmod(0o600)
	if err == nil {
		_, err = f.Write(content)
	}
	return errors.Join(err, f.Close())
}

// errReplaced says that an entry was replaced or removed between opening it and looking at it.
var errReplaced = errors.New("replaced meanwhile")

// Read returns the content of an entry, which the caller wipes. Errors: ErrNotFound; ErrEntry if it is not a regular
// file of root with mode 0600, one link and at most 512 bytes.
func (d *Dir) Read(name string) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	// An entry that is replaced just now must not look as if it had been removed: that would lock its user.
	for range 100 {
		b, err := d.readOnce(name)
		if !errors.Is(err, errReplaced) {
			return b, err
		}
	}
	return nil, fmt.Errorf("%w %s: it is replaced all the time", ErrEntry, d.entry(name))
}

func (d *Dir) readOnce(name string) ([]byte, error) {
	fd, err := unix.Openat(d.FD(), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, ErrNotFound
	case errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO):
		return nil, fmt.Errorf("%w %s: it is not a regular file", ErrEntry, d.entry(name))
	case err != nil:
		return nil, fmt.Errorf("cannot open keyring entry %s: %w", d.entry(name), err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if err := d.checkEntry(fd, name); err != nil {
		return nil, err
	}
	b := make([]byte, MaxEntry+1)
	n, err := io.ReadFull(f, b)
	if n > MaxEntry {
		secret.Wipe(b)
		return nil, fmt.Errorf("%w %s: it has more than %d bytes", ErrEntry, d.entry(name), MaxEntry)
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		secret.Wipe(b)
		return nil, fmt.Errorf("cannot read keyring entry %s: %w", d.entry(name), err)
	}
	return b[:n], nil
}

func (d *Dir) checkEntry(fd int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("cannot look at keyring entry %s: %w", d.entry(name), err)
	}
	var reason string
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		reason = "it is not a regular file"
	case st.Uid != 0:
		reason = fmt.Sprintf("it is owned by uid %d, not by root", st.Uid)
	case st.Mode&0o7777 != 0o600:
		reason = fmt.Sprintf("it has mode %04o, not 0600", st.Mode&0o7777)
	case st.Nlink > 1:
		reason = "it has more than one link"
	case st.Nlink == 0:
		return errReplaced
	case st.Size > MaxEntry:
		reason = fmt.Sprintf("it has more than %d bytes", MaxEntry)
	default:
		return nil
	}
	return fmt.Errorf("%w %s: %s", ErrEntry, d.entry(name), reason)
}

// Has tells whether something of that name is there, whatever it is. It costs one system call.
func (d *Dir) Has(name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(d.FD(), name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// Remove removes an entry, whatever it is; ErrNotFound if there is none.
func (d *Dir) Remove(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	err := unix.Unlinkat(d.FD(), name, 0)
	if errors.Is(err, unix.ENOENT) {
		return ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("cannot remove keyring entry %s: %w", d.entry(name), err)
	}
	return nil
}

// List returns the names of all entries, in no order; temporary files are left out (FORMAT.md R1).
func (d *Dir) List() ([]string, error) {
	fd, err := unix.Openat(d.FD(), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", d.path, err)
	}
	f := os.NewFile(uintptr(fd), d.path)
	defer f.Close()
	all, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", d.path, err)
	}
	var names []string
	for _, name := range all {
		if checkName(name) == nil {
			names = append(names, name)
		}
	}
	return names, nil
}

func (d *Dir) entry(name string) string { return filepath.Join(d.path, name) }

// checkName refuses names of temporary files, and whatever is not a name in this directory.
func checkName(name string) error {
	if name == "" || strings.HasPrefix(name, ".") || strings.Contains(name, "/") {
		return fmt.Errorf("%w: %q is not the name of an entry", ErrEntry, name)
	}
	return nil
}
