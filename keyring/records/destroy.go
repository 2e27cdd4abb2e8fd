package records

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// What is destroyed is overwritten where it lies before it is let go. That is worth something on filesystems and devices
// that write in place, and nothing on others, nor for snapshots and backups: FORMAT.md K18 says so.

// Purge is Update for a change that takes keys away: afterwards neither the record of before nor a previous version is on
// disk. When it fails the record is as before or as changed, and Purge can be called again to finish the work.
func (h *Home) Purge(change func(rec *User) error) error {
	loaded, err := h.Read()
	if err != nil {
		return err
	}
	rec := loaded.User
	if err := change(rec); err != nil {
		return err
	}
	rec.Serial++
	b, err := h.encode(rec)
	if err != nil {
		return err
	}
	// First the record: as long as it is not in place the previous version may be needed.
	for _, name := range []string{recordName, previousName} {
		if err := h.replaceScrubbing(name, b); err != nil {
			return err
		}
	}
	return nil
}

// Repeat makes the previous version the same as the record, so that damage to the record loses no key that was made by
// its last change.
func (h *Home) Repeat() error {
	b, err := readAt(h.dir, recordName, maxUserSize)
	if err != nil {
		return fmt.Errorf("%s: %w", h.d.userPath(h.user, recordName), err)
	}
	return h.d.replace(h.dir, previousName, b)
}

// replaceScrubbing is replace for a file whose old content is to be destroyed.
func (h *Home) replaceScrubbing(name string, content []byte) error {
	if err := h.destroy(h.dir, tempOf(name)); err != nil {
		return err
	}
	old, err := openToScrub(h.dir, name)
	if err != nil {
		return err
	}
	if old != nil {
		defer old.Close()
	}
	if err := h.d.replace(h.dir, name, content); err != nil || old == nil {
		return err
	}
	return h.d.step("scrub", name, func() error { return scrub(old) })
}

// destroy overwrites and removes a file; one that is not there is no error. The removal is durable when the caller has
// synced the directory.
func (h *Home) destroy(dir *os.File, name string) error {
	f, err := openToScrub(dir, name)
	if err != nil || f == nil {
		return err
	}
	defer f.Close()
	// Removed first: nobody shall read a record of zeros and call it damaged. A crash in between leaves a file without a
	// name, which the filesystem frees.
	err = h.d.step("remove", name, func() error { return unlinkAt(dir, name) })
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("cannot remove %s in %s: %w", name, dir.Name(), err)
	}
	return h.d.step("scrub", name, func() error { return scrub(f) })
}

// DestroyDelivery destroys delivery keys: what is still sealed under them is lost. Those that are not there are no error.
func (h *Home) DestroyDelivery(ids ...secret.ID) error {
	dir, err := openDirAt(int(h.dir.Fd()), deliveryName, h.d.userPath(h.user, deliveryName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, id := range ids {
		name := id.String() + ".toml"
		for _, name := range []string{tempOf(name), name} {
			if err := h.destroy(dir, name); err != nil {
				return err
			}
		}
	}
	return h.d.step("sync directory", deliveryName, dir.Sync)
}

// openToScrub opens a regular file for writing; nil if there is none of that name.
func openToScrub(dir *os.File, name string) (*os.File, error) {
	fd, err := openAt(int(dir.Fd()), name, unix.O_WRONLY|unix.O_NONBLOCK)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("cannot destroy %s in %s: %w", name, dir.Name(), err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// zeros is what scrub writes at a time.
type zeros [4096]byte

// scrub overwrites a file that has lost its last name. One that has another name, as backups by hard links give it, is
// left alone: it belongs to whoever gave it that name.
func scrub(f *os.File) error {
	var st unix.Stat_t
	if err := again(func() error { return unix.Fstat(int(f.Fd()), &st) }); err != nil {
		return fmt.Errorf("cannot overwrite %s: %w", f.Name(), err)
	}
	if st.Nlink > 0 || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	_, err := io.CopyBuffer(&atWriter{f: f}, io.LimitReader(endless{}, st.Size), new(zeros)[:])
	if err := errors.Join(err, f.Sync()); err != nil {
		return fmt.Errorf("cannot overwrite %s: %w", f.Name(), err)
	}
	return nil
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// atWriter writes from the beginning.
type atWriter struct {
	f  *os.File
	at int64
}

func (w *atWriter) Write(b []byte) (int, error) {
	n, err := w.f.WriteAt(b, w.at)
	w.at += int64(n)
	return n, err
}
