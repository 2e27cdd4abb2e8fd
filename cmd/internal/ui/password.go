package ui

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// MaxPassword is the longest password that is read, in bytes.
const MaxPassword = 4096

// PasswordSource says where a password comes from: a descriptor, a file, or (neither) the terminal.
type PasswordSource struct {
	FD   int    // --password-fd; negative if not given
	File string // --password-file; empty if not given
}

// Read returns the password, which the caller wipes. From a descriptor or a file it is everything up to the end, less
// one final newline. From the terminal it is asked for without echo, twice if confirm, with prompt on standard error.
// An empty password, one of more than MaxPassword bytes, or one with a newline or a zero byte is refused.
func (s PasswordSource) Read(prompt string, confirm bool) ([]byte, error) {
	switch {
	case s.FD >= 0 && s.File != "":
		return nil, Failf(ExitUsage, "give one of them", "--password-fd and --password-file exclude each other")
	case s.FD >= 0:
		return readFD(s.FD)
	case s.File != "":
		return readFile(s.File)
	default:
		return readTerminal(prompt, confirm)
	}
}

func readFD(fd int) ([]byte, error) {
	f := os.NewFile(uintptr(fd), fmt.Sprintf("descriptor %d", fd))
	if f == nil {
		return nil, Failf(ExitUsage, "", "--password-fd %d is not a descriptor", fd)
	}
	defer f.Close()
	p, err := readAll(f)
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
	p, err := readAll(f)
	if err != nil {
		return nil, Failf(ExitNoInput, "", "cannot read the password from %s: %w", path, err)
	}
	return judge(p)
}

// readAll reads to the end into one buffer that never moves, so that no copy stays behind.
func readAll(r io.Reader) ([]byte, error) {
	buf := make([]byte, MaxPassword+2)
	n, err := io.ReadFull(r, buf)
	if err == nil {
		secret.Wipe(buf)
		return nil, fmt.Errorf("more than %d bytes", MaxPassword)
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		secret.Wipe(buf)
		return nil, err
	}
	return bytes.TrimSuffix(buf[:n], []byte("\n")), nil
}

func readTerminal(prompt string, confirm bool) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, Failf(ExitUsage, "use --password-fd N or --password-file FILE", "no terminal to ask for a password on")
	}
	defer tty.Close()
	first, err := ask(tty, prompt+": ")
	if err != nil {
		return nil, err
	}
	if first, err = judge(first); err != nil || !confirm {
		return first, err
	}
	second, err := ask(tty, prompt+" again: ")
	defer secret.Wipe(second)
	if err != nil {
		secret.Wipe(first)
		return nil, err
	}
	if !bytes.Equal(first, second) {
		secret.Wipe(first)
		return nil, Failf(ExitUsage, "try again", "the two passwords differ")
	}
	return first, nil
}

func ask(tty *os.File, prompt string) ([]byte, error) {
	if _, err := io.WriteString(tty, prompt); err != nil {
		return nil, Failf(ExitIOErr, "", "cannot ask for the password: %w", err)
	}
	p, err := term.ReadPassword(int(tty.Fd()))
	_, _ = io.WriteString(tty, "\n") // cosmetic
	if err != nil {
		secret.Wipe(p)
		return nil, Failf(ExitIOErr, "", "cannot read the password from the terminal: %w", err)
	}
	return p, nil
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
