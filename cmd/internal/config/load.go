package config

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/BurntSushi/toml"
)

// maxFile is the largest configuration file that is read, in bytes.
const maxFile = 256 << 10

// ErrMissing is returned (wrapped) by Load when there is no file.
var ErrMissing = errors.New("no configuration file")

// Load reads, parses and validates the file. Every error names the file; those about one key are *KeyError, joined when
// there are several. It refuses a file that others than its owner (root, or whoever runs this) can change, because the
// file decides where keys and mail go. No file: ErrMissing.
func Load(path string) (Config, error) {
	text, err := readSafe(path)
	if err != nil {
		return Config{}, err
	}
	return Parse(path, text)
}

// Parse is Load for a text at hand; path is only used in errors.
func Parse(path string, text []byte) (Config, error) {
	c := Default()
	md, err := toml.Decode(string(text), &c)
	if err != nil {
		return Config{}, syntaxError(path, err)
	}
	if !md.IsDefined("pam") {
		c.PAM = filepath.Join(filepath.Dir(c.Control), pamName)
	}
	lines := keyLines(text)
	var errs []error
	seen := make(map[string]bool)
	for _, key := range md.Keys() { // not md.Undecoded: the decoder does not tell "Store" from "store"
		if !known(key[0]) && !seen[key[0]] {
			seen[key[0]] = true
			errs = append(errs, unknownKey(path, lines, key[0]))
		}
	}
	invalid := c.validate()
	if c.Enroll == "auto" && !md.IsDefined("recovery") {
		invalid = append(invalid, &KeyError{Key: "enroll", Value: literal(c.Enroll), Problem: "first logins would make keys that only a password opens",
			Remedy: `write recovery = "required" and recovery_recipients, or recovery = "none" if lost passwords may lose mail`})
	}
	for _, err := range invalid {
		err.Path, err.Line = path, lines[err.Key]
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return Config{}, errors.Join(errs...)
	}
	return c, nil
}

func readSafe(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, fmt.Errorf("%w at %s", ErrMissing, path)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%s belongs to uid %d; it decides where keys and mail go: chown root %s", path, st.Uid, path)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("%s can be changed by others (mode %04o): chmod go-w %s", path, info.Mode().Perm(), path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return text, nil
}

func syntaxError(path string, err error) error {
	var pe toml.ParseError
	if !errors.As(err, &pe) {
		return fmt.Errorf("%s: %w", path, err)
	}
	if pe.LastKey != "" {
		return fmt.Errorf("%s:%d: key %q: %s", path, pe.Position.Line, pe.LastKey, pe.Message)
	}
	return fmt.Errorf("%s:%d: %s", path, pe.Position.Line, pe.Message)
}

func unknownKey(path string, lines map[string]int, name string) *KeyError {
	e := &KeyError{Path: path, Line: lines[name], Key: name, Problem: "unknown key", Remedy: "see mailcryptfs.toml(5)"}
	if best := nearest(name); best != "" {
		e.Remedy = fmt.Sprintf("did you mean %q?", best)
	}
	return e
}

// keyLines finds the line on which each key (or table) of the flat file begins. A key that is written in some other
// legal way is simply not found: errors then go without a line.
func keyLines(text []byte) map[string]int {
	lines := make(map[string]int)
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimLeft(line, " \t[\"'")
		end := strings.IndexAny(line, " \t=.]\"'")
		if end <= 0 || line[0] == '#' {
			continue
		}
		if _, seen := lines[line[:end]]; !seen {
			lines[line[:end]] = i + 1
		}
	}
	return lines
}
