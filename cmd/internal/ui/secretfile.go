package ui

import (
	"bytes"
	"io"
	"os"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// ReadSecretFile reads a file of several lines that holds secrets, at most most bytes; the caller wipes them. "-" is
// standard input. warning tells of a file that others can read: it is used all the same, because removable media often
// know no modes.
func ReadSecretFile(path string, most int) (text []byte, warning string, err error) {
	f := os.Stdin
	if path != "-" {
		if f, err = os.Open(path); err != nil {
			return nil, "", Failf(ExitNoInput, "", "cannot read it: %w", err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return nil, "", Failf(ExitNoInput, "", "cannot read it: %w", err)
		}
		if info.IsDir() {
			return nil, "", Failf(ExitNoInput, "", "%s is a directory", path)
		}
		if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
			warning = path + " can be read by others: chmod 600 " + Quote(path)
		}
	}
	if text, err = readAll(f, most); err != nil {
		return nil, "", Failf(ExitNoInput, "", "cannot read %s: %w", path, err)
	}
	return text, warning, nil
}

// ReadLines reads exactly n lines from r, as programs write secrets to each other: each has at most MaxPassword bytes and
// no zero byte, and the last may lack its newline. The caller wipes them. An empty line is allowed; what it means is for
// the caller to say.
func ReadLines(r io.Reader, n int) ([][]byte, error) {
	text, err := readAll(r, n*(MaxPassword+1))
	if err != nil {
		return nil, Failf(ExitNoInput, "", "cannot read standard input: %w", err)
	}
	defer secret.Wipe(text)
	lines := bytes.Split(text, []byte("\n"))
	if len(lines) != n {
		return nil, Failf(ExitUsage, "write each on a line of its own", "standard input has %d lines, not %d", len(lines), n)
	}
	out := make([][]byte, n)
	for i, line := range lines {
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) > MaxPassword || bytes.IndexByte(line, 0) >= 0 {
			for _, o := range out {
				secret.Wipe(o)
			}
			return nil, Failf(ExitUsage, "", "line %d of standard input is no password: it is too long, or has a zero byte", i+1)
		}
		out[i] = bytes.Clone(line)
	}
	return out, nil
}
