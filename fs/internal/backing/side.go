package backing

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// ReadSmall returns the content of the regular file name if it has at most limit
// bytes; a larger one or another type of entry is EIO.
func (d *Dir) ReadSmall(name string, limit int) ([]byte, error) {
	f, err := d.Open(name, unix.O_RDONLY|unix.O_NOATIME)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Type() != unix.S_IFREG || st.Size > int64(limit) {
		return nil, unix.EIO
	}
	buf := make([]byte, limit+1)
	n, err := f.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if n > limit {
		return nil, unix.EIO
	}
	return buf[:n], nil
}

// WriteDurable makes the regular file name with this content, replacing what is
// there, durable together with its entry before it returns (FORMAT.md N5).
func (d *Dir) WriteDurable(name string, content []byte) error {
	f, err := d.Tmpfile(0o600, Owner{})
	if err != nil {
		return d.writePlain(name, content)
	}
	defer f.Close()
	if _, err := f.WriteAt(content, 0); err != nil {
		return err
	}
	if err := f.Sync(false); err != nil {
		return err
	}
	err = f.LinkTo(d, name)
	if errors.Is(err, unix.EEXIST) {
		// Only a crash leaves one without its entry; the content is a function of the name.
		return d.writePlain(name, content)
	}
	if err != nil {
		return err
	}
	return d.Sync()
}

// writePlain is WriteDurable for filesystems without O_TMPFILE and for names that
// exist: the content of a side entry is a function of its name, so writing it in
// place changes nothing that was right.
func (d *Dir) writePlain(name string, content []byte) error {
	f, err := d.Open(name, unix.O_WRONLY)
	if errors.Is(err, unix.ENOENT) {
		f, err = d.Create(name, 0o600, Owner{})
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(int64(len(content))); err != nil {
		return err
	}
	if _, err := f.WriteAt(content, 0); err != nil {
		return err
	}
	if err := f.Sync(false); err != nil {
		return err
	}
	return d.Sync()
}
