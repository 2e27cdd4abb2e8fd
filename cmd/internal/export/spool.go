package export

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"filippo.io/age"
)

// spool holds what is written to it until its size is known, in a file without a name. The file is encrypted to a key
// that is nowhere else than in memory: nobody has said that mail may be written to that disk.
type spool struct {
	file *os.File
	key  *age.X25519Identity
	out  io.WriteCloser
	size int64
}

// newSpool makes a spool in a directory. The caller closes it.
func newSpool(dir string) (*spool, error) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, ".mailcryptfs-export-")
	if err != nil {
		return nil, noRoom(err)
	}
	s := &spool{file: f, key: key}
	err = os.Remove(f.Name())
	if err == nil {
		s.out, err = age.Encrypt(f, key.Recipient())
	}
	if err != nil {
		return nil, errors.Join(noRoom(err), f.Close())
	}
	return s, nil
}

func (s *spool) Write(b []byte) (int, error) {
	n, err := s.out.Write(b)
	s.size += int64(n)
	return n, noRoom(err)
}

// content returns what was written. Nothing may be written any more.
func (s *spool) content() (io.Reader, error) {
	if err := s.out.Close(); err != nil {
		return nil, noRoom(err)
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return age.Decrypt(bufio.NewReaderSize(s.file, 64<<10), s.key)
}

func (s *spool) Close() error { return s.file.Close() }

func noRoom(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("a tar stream needs room for its largest folder, encrypted, beside the tar file or in $TMPDIR: %w", err)
}
