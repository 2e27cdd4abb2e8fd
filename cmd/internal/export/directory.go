package export

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// directory is a destination on a filesystem.
type directory struct {
	root *os.Root
	made map[string]bool
}

// ErrExists says that the destination is there already.
var ErrExists = errors.New("it exists already")

// NewDirectory makes the directory at path, which must not exist (ErrExists), for its owner alone, and returns it as a
// destination. What goes wrong later leaves it there, for somebody to look at.
func NewDirectory(path string) (Dest, error) {
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("%s: %w", path, ErrExists)
	}
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return &directory{root: root, made: map[string]bool{}}, nil
}

func (d *directory) Dir(path []string) error {
	name := filepath.Join(path...)
	if name == "" || d.made[name] {
		return nil
	}
	d.made[name] = true
	return d.root.Mkdir(name, 0o700)
}

func (d *directory) File(path []string, size int64, modified time.Time, r io.Reader) error {
	err := d.Stream(path, func(w io.Writer) error {
		n, err := io.Copy(w, r)
		return errors.Join(err, short(n, size))
	})
	if err != nil || modified.IsZero() {
		return err
	}
	return d.root.Chtimes(filepath.Join(path...), modified, modified)
}

func (d *directory) Stream(path []string, fill func(io.Writer) error) (err error) {
	name := filepath.Join(path...)
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = d.root.Remove(name)
		}
	}()
	return fill(f)
}

// Close makes everything durable at once: an fsync for each message would take hours for a large mailbox.
func (d *directory) Close() error {
	f, err := d.root.Open(".")
	if err != nil {
		return err
	}
	err = unix.Syncfs(int(f.Fd()))
	if err != nil {
		err = fmt.Errorf("syncfs: %w", err)
	}
	return errors.Join(err, f.Close(), d.root.Close(), syncParent(d.root.Name()))
}

// syncParent makes the name of the directory itself durable.
func syncParent(path string) error {
	f, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
