package export

import (
	"archive/tar"
	"errors"
	"io"
	"path"
	"time"
	"unicode/utf8"
)

// archive is a destination that is a tar stream.
type archive struct {
	tar   *tar.Writer
	base  string
	spool string // directory for files whose size is not known yet
	now   time.Time
	made  map[string]bool
	end   func() error
}

// NewTar returns a tar stream to w as a destination: everything in it lies below the directory base. A tar stream tells
// the size of a file before the file, so mbox files are kept in the directory spool until they are complete, encrypted and
// without a name. end makes w durable when the archive is complete; it may be nil.
func NewTar(w io.Writer, base, spool string, end func() error) (Dest, error) {
	if err := check([]string{base}); err != nil {
		return nil, err
	}
	return &archive{tar: tar.NewWriter(w), base: base, spool: spool, now: time.Now(), made: map[string]bool{}, end: end}, nil
}

func (a *archive) header(components []string, kind byte, size int64, modified time.Time) *tar.Header {
	if modified.IsZero() {
		modified = a.now
	}
	h := &tar.Header{Typeflag: kind, Name: path.Join(append([]string{a.base}, components...)...), Size: size, ModTime: modified, Mode: 0o600, Format: tar.FormatPAX}
	if !utf8.ValidString(h.Name) {
		// PAX records are UTF-8. GNU headers take any bytes, but whole seconds only.
		h.Format, h.ModTime = tar.FormatGNU, modified.Truncate(time.Second)
	}
	if kind == tar.TypeDir {
		h.Name, h.Mode = h.Name+"/", 0o700
	}
	return h
}

func (a *archive) Dir(components []string) error {
	h := a.header(components, tar.TypeDir, 0, time.Time{})
	if a.made[h.Name] {
		return nil
	}
	a.made[h.Name] = true
	return a.tar.WriteHeader(h)
}

func (a *archive) File(components []string, size int64, modified time.Time, r io.Reader) error {
	if err := a.tar.WriteHeader(a.header(components, tar.TypeReg, size, modified)); err != nil {
		return err
	}
	n, err := io.Copy(a.tar, r)
	return errors.Join(err, short(n, size))
}

func (a *archive) Stream(components []string, fill func(io.Writer) error) error {
	s, err := newSpool(a.spool)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := fill(s); err != nil {
		return err
	}
	r, err := s.content()
	if err != nil {
		return err
	}
	return a.File(components, s.size, time.Time{}, r)
}

func (a *archive) Close() error {
	err := a.tar.Close()
	if err == nil && a.end != nil {
		err = a.end()
	}
	return err
}
