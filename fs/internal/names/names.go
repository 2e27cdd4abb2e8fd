// Package names maps names of the view to names of the store and back, as
// FORMAT.md section 2 lays down. It does no I/O: side entries of long names are
// read and written by package backing.
package names

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/seal"
)

const (
	// MaxView is the length in bytes of the longest name of the view (N1).
	MaxView = 255
	// MaxStored is the length in bytes of the longest stored name.
	MaxStored = 255
	// MaxTarget is the length in bytes of the longest target of a symbolic link (N10).
	MaxTarget = 3050
	// KeyDir is the directory of key records in the root of the store (K7).
	KeyDir = ".mailcryptfs"

	maxShort  = 172
	longChars = 43

	encPrefix   = "mc1="
	longPrefix  = "mc1+"
	plainPrefix = "mc1~"
	sideSuffix  = ".n"
	tempPrefix  = "mc1!"
)

// Kind tells what a stored name stands for.
type Kind uint8

// The kinds of stored names (FORMAT.md section 2).
const (
	Plain       Kind = iota // neither name nor content is encrypted
	Encrypted               // name and content are encrypted
	PlainNamed              // only the content is encrypted
	Damaged                 // looks encrypted, does not open (N9)
	Unsupported             // of another format version (N9)
	Hidden                  // side entry, temporary file or key directory: not in the view
)

// Sealed reports whether the content of a regular file of this kind is encrypted.
func (k Kind) Sealed() bool { return k == Encrypted || k == PlainNamed }

// Broken reports whether opening an entry of this kind is an error (N9).
func (k Kind) Broken() bool { return k == Damaged || k == Unsupported }

// Stored is a name in the store.
type Stored struct {
	Name string
	Kind Kind
	Long bool // its view name is in a side entry (N4)
}

// Side returns the name of the side entry of a long name.
func (s Stored) Side() string { return s.Name + sideSuffix }

// Codec translates names with one site's keys. It is safe for concurrent use.
type Codec struct {
	keys   *seal.Names
	plain  bool
	sealed *recent[Stored] // by view name
	opened *recent[string] // view names, by stored name
}

// New returns a Codec; plain selects names = "plain" (N6) for new entries.
func New(keys *seal.Names, plain bool) *Codec {
	return &Codec{keys: keys, plain: plain, sealed: newRecent[Stored](sealedNames), opened: newRecent[string](openedNames)}
}

var b64 = base64.RawURLEncoding.Strict()

// decode appends to dst what b64 made s of. It refuses what b64 would not have
// written: the library skips line ends even when it is strict.
func decode(dst []byte, s string) ([]byte, error) {
	if strings.IndexByte(s, '\r') >= 0 || strings.IndexByte(s, '\n') >= 0 {
		return nil, seal.ErrName
	}
	b, err := b64.AppendDecode(dst, []byte(s))
	if err != nil {
		return nil, seal.ErrName
	}
	return b, nil
}

// Check reports whether name can be a name of the view (N1).
func Check(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("%q is not a file name", name)
	case len(name) > MaxView:
		return fmt.Errorf("name of %d bytes is longer than %d", len(name), MaxView)
	case strings.IndexByte(name, '/') >= 0 || strings.IndexByte(name, 0) >= 0:
		return fmt.Errorf("name %q has a slash or a zero byte", name)
	}
	return nil
}

// reserved implements N7.
func reserved(name string, root bool) bool {
	return marked(name) || root && name == KeyDir
}

func marked(name string) bool {
	return len(name) >= 4 && name[:2] == "mc" && name[2] >= '0' && name[2] <= '9' && strings.IndexByte("=+~!", name[3]) >= 0
}

// LooksEncrypted reports whether a stored name has the form of an encrypted entry, a
// side entry or a temporary file, or, in the root, is the key directory's: no plain or
// plain-named entry does.
func LooksEncrypted(stored string, root bool) bool {
	return marked(stored) && stored[3] != plainPrefix[3] || root && stored == KeyDir
}

// CanBePlain reports whether a plain entry may have this name (N7).
func (c *Codec) CanBePlain(name string, root bool) bool { return !reserved(name, root) }

// Encrypt returns the encrypted stored name of view name (N3, N4).
func (c *Codec) Encrypt(name string) Stored {
	if s, ok := c.sealed.find(name); ok {
		return s
	}
	s := c.encrypt(name)
	c.sealed.add(strings.Clone(name), s)
	return s
}

func (c *Codec) encrypt(name string) Stored {
	if len(name) > maxShort {
		h := c.keys.Hash(name)
		return Stored{Name: longPrefix + b64.EncodeToString(h[:]), Kind: Encrypted, Long: true}
	}
	return Stored{Name: c.encode(seal.NameLabel, name), Kind: Encrypted}
}

func (c *Codec) encode(l seal.Label, s string) string {
	var buf [maxShort + seal.SIVSize]byte
	sealed := c.keys.Seal(buf[:0], l, s)
	out := make([]byte, len(encPrefix)+b64.EncodedLen(len(sealed)))
	copy(out, encPrefix)
	b64.Encode(out[len(encPrefix):], sealed)
	return string(out)
}

// PlainNames reports whether names = "plain" (N6) is selected for new entries.
func (c *Codec) PlainNames() bool { return c.plain }

// Create returns the stored name for a new entry in a directory of the view;
// regular says that it will be a regular file, root that the directory is the
// root (N3, N4, N6).
func (c *Codec) Create(name string, regular, root bool) Stored {
	switch {
	case !c.plain:
		return c.Encrypt(name)
	case (regular || reserved(name, root)) && len(plainPrefix)+len(name) <= MaxStored:
		return Stored{Name: plainPrefix + name, Kind: PlainNamed}
	case !regular && !reserved(name, root):
		return Stored{Name: name, Kind: Plain}
	}
	return c.Encrypt(name)
}

// Candidates calls try with each stored name that view name may have in a
// directory, in the order of N8, until try returns true. A candidate of kind
// Damaged or Unsupported is the name itself (N9); for one that is Long try must
// look at the side entry and refuse it if that opens.
func (c *Codec) Candidates(name string, root bool, try func(Stored) bool) {
	if try(c.Encrypt(name)) {
		return
	}
	if len(plainPrefix)+len(name) <= MaxStored && try(Stored{Name: plainPrefix + name, Kind: PlainNamed}) {
		return
	}
	if !reserved(name, root) {
		try(Stored{Name: name, Kind: Plain})
		return
	}
	if _, s := c.Decode(name, root); s.Kind.Broken() || s.Long && s.Kind != Hidden {
		if s.Kind != Unsupported {
			s.Kind = Damaged
		}
		try(s)
	}
}

// Decode returns the view name of a stored name and what it stands for. For a
// Long one the view name is empty: OpenSide tells it. A Damaged or Unsupported
// entry is shown under its stored name (N9).
func (c *Codec) Decode(stored string, root bool) (string, Stored) {
	s := Stored{Name: stored}
	switch {
	case root && stored == KeyDir:
		s.Kind = Hidden
	case !marked(stored):
		return stored, s
	case stored[2] != '1':
		s.Kind = Unsupported
		return stored, s
	case stored[3] == '!':
		s.Kind = Hidden
	case stored[3] == '~':
		s.Kind = PlainNamed
		if name := stored[len(plainPrefix):]; Check(name) == nil {
			return name, s
		}
		s.Kind = Damaged
		return stored, s
	case stored[3] == '+':
		return c.decodeLong(s)
	default:
		s.Kind = Encrypted
		if name, ok := c.opened.find(stored); ok {
			return name, s
		}
		if name, err := c.open(seal.NameLabel, stored); err == nil && Check(name) == nil && len(name) <= maxShort {
			c.opened.add(strings.Clone(stored), name)
			return name, s
		}
		s.Kind = Damaged
		return stored, s
	}
	return "", s
}

func (c *Codec) decodeLong(s Stored) (string, Stored) {
	hash, side := strings.CutSuffix(s.Name[len(longPrefix):], sideSuffix)
	if _, err := decode(nil, hash); err != nil || len(hash) != longChars {
		s.Kind = Damaged
		return s.Name, s
	}
	if side {
		s.Kind = Hidden
		return "", s
	}
	s.Kind, s.Long = Encrypted, true
	return "", s
}

func (c *Codec) open(l seal.Label, encoded string) (string, error) {
	if !strings.HasPrefix(encoded, encPrefix) {
		return "", seal.ErrName
	}
	var buf [MaxStored]byte
	sealed, err := decode(buf[:0], encoded[len(encPrefix):])
	if err != nil {
		return "", err
	}
	return c.keys.Open(l, sealed)
}

// SideContent returns the content of the side entry of a long view name (N4).
func (c *Codec) SideContent(name string) []byte { return c.keys.Seal(nil, seal.NameLabel, name) }

// MaxSide is the size in bytes of the largest side entry (N4).
const MaxSide = MaxView + seal.SIVSize

// OpenSide returns the view name in the content of the side entry of s, checked
// against the name of s (N4). The error is seal.ErrName.
func (c *Codec) OpenSide(s Stored, content []byte) (string, error) {
	name, err := c.keys.Open(seal.NameLabel, content)
	if err != nil {
		return "", err
	}
	if Check(name) != nil || len(name) <= maxShort || c.Encrypt(name).Name != s.Name {
		return "", seal.ErrName
	}
	return name, nil
}

// Sided returns the name of the entry whose side entry the stored name is; ok is false for any other name.
func Sided(stored string) (entry string, ok bool) {
	if !strings.HasPrefix(stored, longPrefix) {
		return "", false
	}
	return strings.CutSuffix(stored, sideSuffix)
}

// Temporary returns the stored name of a new temporary file (N12).
func Temporary() string {
	var b [16]byte
	seal.Nonces(b[:])
	return tempPrefix + b64.EncodeToString(b[:])
}

// IsTemporary reports whether a stored name is that of a temporary file (N12).
func IsTemporary(stored string) bool { return strings.HasPrefix(stored, tempPrefix) }
