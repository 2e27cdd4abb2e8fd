package ui

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// MaxPassword is the longest password that is read, in bytes.
const MaxPassword = 4096

// PasswordSource says where a password, or another secret of one line, comes from: a descriptor, a file, or (neither) the
// terminal.
type PasswordSource struct {
	FD   int    // --password-fd; negative if not given
	File string // --password-file; empty if not given
	Name string // what the flags are called instead of "password"
}

// Given reports whether a descriptor or a file is named.
func (s PasswordSource) Given() bool { return s.FD >= 0 || s.File != "" }

func (s PasswordSource) name() string { return cmp.Or(s.Name, "password") }

// Read returns the password, which the caller wipes. From a descriptor or a file it is everything up to the end, less
// one final newline. From the terminal it is asked for without echo, twice if confirm, with prompt on standard error.
// An empty password, one of more than MaxPassword bytes, or one with a newline or a zero byte is refused.
func (s PasswordSource) Read(prompt string, confirm bool) ([]byte, error) {
	switch {
	case s.FD >= 0 && s.File != "":
		return nil, Failf(ExitUsage, "give one of them", "--%s-fd and --%[1]s-file exclude each other", s.name())
	case s.FD >= 0:
		return s.readFD()
	case s.File != "":
		return readFile(s.File)
	default:
		return readTerminal(prompt, confirm, fmt.Sprintf("use --%s-fd N or --%[1]s-file FILE", s.name()))
	}
}

func (s PasswordSource) readFD() ([]byte, error) {
	fd := s.FD
	f := os.NewFile(uintptr(fd), fmt.Sprintf("descriptor %d", fd))
	if f == nil {
		return nil, Failf(ExitUsage, "", "--%s-fd %d is not a descriptor", s.name(), fd)
	}
	defer f.Close()
	p, err := readAll(f, MaxPassword)
	if err != nil {
		return nil, Failf(ExitNoInput, fmt.Sprintf("open it for the command, for example: %d<FILE", fd),
			"cannot read the password from descriptor %d: %w", fd, err)
	}
	return judge(p)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, Failf(ExitNoInput, "", "cannot read the password: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, Failf(ExitNoInput, "", "cannot read the password: %w", err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return nil, Failf(ExitNoPerm, "chmod 600 "+Quote(path), "%s can be read or changed by others (mode %04o)",
			path, info.Mode().Perm())
	}
	p, err := readAll(f, MaxPassword)
	if err != nil {
		return nil, Failf(ExitNoInput, "", "cannot read the password from %s: %w", path, err)
	}
	return judge(p)
}

// readAll reads to the end into one buffer that never moves, so that no copy stays behind. It takes off a final newline.
func readAll(r io.Reader, most int) ([]byte, error) {
	buf := make([]byte, most+2)
	n, err := io.ReadFull(r, buf)
	if err == nil {
		secret.Wipe(buf)
		return nil, fmt.Errorf("more than %d bytes", most)
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		secret.Wipe(buf)
		return nil, err
	}
	return bytes.TrimSuffix(buf[:n], []byte("\n")), nil
}

// judge refuses passwords that no login could ever present.
func judge(p []byte) ([]byte, error) {
	problem := ""
	switch {
	case len(p) == 0:
		problem = "the password is empty"
	case len(p) > MaxPassword:
		problem = fmt.Sprintf("the password has more than %d bytes", MaxPassword)
	case bytes.ContainsAny(p, "\n\x00"):
		problem = "the password contains a newline or a zero byte"
	}
	if problem == "" {
		return p, nil
	}
	secret.Wipe(p)
	return nil, Failf(ExitUsage, "give the password that the user logs in with", "%s", problem)
}
