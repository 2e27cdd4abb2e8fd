package site

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// filePrefix begins the one line of a site secret file (FORMAT.md K2).
const filePrefix = "mailcryptfs-site-secret-1:"

// fileSize is the exact size of a site secret file in bytes: prefix, 64 hex digits, newline.
const fileSize = len(filePrefix) + 2*secret.Size + 1

// ErrContent says that a file is not a site secret file of version 1.
var ErrContent = errors.New("not a site secret file")

// Generate writes a new random site secret to path: a file that did not exist before, mode 0400, owned by the caller,
// durable with its directory when Generate returns. On failure no file is left.
func Generate(path string) error {
	s := make([]byte, secret.Size)
	defer secret.Wipe(s)
	_, _ = rand.Read(s) // never fails
	return Write(path, s)
}

// Load reads the site secret at path, as Read does, and derives its keys.
func Load(path string) (*Keys, error) {
	s, err := Read(path)
	if err != nil {
		return nil, err
	}
	return Derive(s)
}

// Read returns the 32 bytes of the site secret at path, which the caller wipes. It refuses a symbolic link, anything but a
// regular file, one that others than root (or the caller) own, one that group or others may access, and any content that
// Generate would not have written (ErrContent). Errors name the file and the remedy.
func Read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link: name the site secret file itself", path)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open the site secret: %w", err)
	}
	defer f.Close()
	if err := checkFile(f); err != nil {
		return nil, err
	}
	// One byte more than allowed shows a file that is too long.
	line := make([]byte, fileSize+1)
	defer secret.Wipe(line)
	n, err := io.ReadFull(f, line)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("cannot read the site secret: %w", err)
	}
	s, err := Parse(line[:n])
	if err != nil {
		return nil, fmt.Errorf("%s: %w: restore it from its escrow copy", path, err)
	}
	return s, nil
}

// Write puts a site secret of 32 bytes, which stay the caller's to wipe, into a file, as Generate does.
func Write(path string, s []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return fmt.Errorf("cannot create the site secret: %w", err)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			_ = os.Remove(path)
		}
	}()
	line := Encode(s)
	defer secret.Wipe(line)
	// The umask may have taken away more than wanted, never less; this is for a umask that takes the owner's right.
	if err := f.Chmod(0o400); err != nil {
		return fmt.Errorf("cannot set the mode of the site secret: %w", err)
	}
	if _, err := f.Write(line); err != nil {
		return fmt.Errorf("cannot write the site secret: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("cannot write the site secret: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

func checkFile(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("cannot look at %s: %w", f.Name(), err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%s is not a regular file", f.Name())
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s is owned by uid %d, who could replace it: chown root %s", f.Name(), st.Uid, f.Name())
	case st.Mode&0o077 != 0:
		return fmt.Errorf("%s has mode %04o, open to others: chmod 0400 %s", f.Name(), st.Mode&0o7777, f.Name())
	}
	return nil
}

// Encode returns the file content of the 32 bytes of a site secret (FORMAT.md K2); the caller wipes it.
func Encode(s []byte) []byte {
	b := make([]byte, fileSize)
	n := copy(b, filePrefix)
	hex.Encode(b[n:], s)
	b[fileSize-1] = '\n'
	return b
}

// Parse returns the 32 bytes of a site secret from the content of its file (FORMAT.md K2), or ErrContent. Both are the
// caller's to wipe.
func Parse(b []byte) ([]byte, error) {
	if len(b) != fileSize || !bytes.HasPrefix(b, []byte(filePrefix)) {
		return nil, ErrContent
	}
	s := make([]byte, secret.Size)
	_, err := hex.Decode(s, b[len(filePrefix):fileSize-1])
	again := Encode(s)
	defer secret.Wipe(again)
	if err != nil || !bytes.Equal(again, b) {
		secret.Wipe(s)
		return nil, ErrContent
	}
	return s, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("cannot make the site secret durable: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("cannot make the site secret durable: %w", err)
	}
	return nil
}
