// Package secret keeps key bytes in locked memory: they are excluded from swap and core dumps, never printed, and wiped
// on demand. It is the only package whose values hold raw keys for longer than one call, and imports nothing of ours.
//
// What wiping cannot reach is said here once: the expanded key schedules of ciphers that were set up from a key live on
// the Go heap until they are collected, and so does what a password became before it reached this process.
package secret

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
)

// Size is the length of every key in bytes.
const Size = 32

// Errors on which callers branch.
var (
	// ErrMemory says that no memory could be locked for a key; the remedy is a higher limit (LimitMEMLOCK of the unit).
	ErrMemory = errors.New("cannot lock memory for keys: raise LimitMEMLOCK (ulimit -l)")
	// ErrWiped says that the key was wiped: its user has been locked since the key was handed out.
	ErrWiped = errors.New("key was wiped")
	// ErrLocked says that the key is known but cannot be opened now because its user is locked.
	ErrLocked = errors.New("user is locked")
	// ErrUnknownKey says that no record of the user names the key (FORMAT.md C12).
	ErrUnknownKey = errors.New("unknown content key")
	// ErrNotEnrolled says that the user has no identity.
	ErrNotEnrolled = errors.New("user is not enrolled")
)

// redacted is all that is ever printed of a key.
const redacted = "[redacted]"

// Key is 32 secret bytes in locked memory. Its zero value is a wiped key. All methods are safe for concurrent use.
type Key struct {
	mu      sync.RWMutex
	cell    *cell // nil once wiped; guarded by mu
	cleanup runtime.Cleanup
}

// NewKey copies the 32 bytes of b into locked memory and wipes b, also when it fails. It returns ErrMemory if no memory
// can be locked. Another length of b is a bug of the caller and panics.
func NewKey(b []byte) (*Key, error) {
	defer Wipe(b)
	if len(b) != Size {
		panic(fmt.Sprintf("secret: a key has %d bytes, not %d", Size, len(b)))
	}
	c, err := cells.take()
	if err != nil {
		return nil, err
	}
	copy(c[:], b)
	k := &Key{cell: c}
	// A safety net for keys that are dropped without Wipe: the cell must not stay behind.
	k.cleanup = runtime.AddCleanup(k, cells.give, c)
	return k, nil
}

// RandomKey returns a new key from the operating system's generator, or ErrMemory.
func RandomKey() (*Key, error) {
	b := make([]byte, Size)
	// rand.Read never returns an error: it ends the process instead.
	_, _ = rand.Read(b)
	return NewKey(b)
}

// Use calls f with the bytes of the key and returns what f returns, or ErrWiped without calling f. The bytes are valid
// only until f returns, must not be changed, and should not be copied. Uses of one key run in parallel and do not
// allocate. f must not call Use or Wipe of the same key: it would wait for itself.
func (k *Key) Use(f func(b []byte) error) error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.cell == nil {
		return ErrWiped
	}
	return f(k.cell[:])
}

// Wipe zeroes the key after every running Use has ended. Calling it again does nothing.
func (k *Key) Wipe() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cell == nil {
		return
	}
	k.cleanup.Stop()
	cells.give(k.cell)
	k.cell = nil
}

// Wiped tells whether the key was wiped.
func (k *Key) Wiped() bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.cell == nil
}

// String returns a fixed text, never the key.
func (k *Key) String() string { return redacted }

// Format prints a fixed text for every verb.
func (k *Key) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// LogValue is a fixed text.
func (k *Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// ID is the public name of a content key: 16 random bytes (FORMAT.md K4).
type ID [16]byte

// RandomID returns a new name for a content key.
func RandomID() ID {
	var id ID
	_, _ = rand.Read(id[:])
	return id
}

// ParseID reads what String writes: exactly 32 lower-case hex digits.
func ParseID(s string) (ID, error) {
	var id ID
	if hex.DecodedLen(len(s)) != len(id) || len(s)%2 != 0 {
		return ID{}, errors.New("a key id has 32 hex digits")
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil || id.String() != s {
		return ID{}, errors.New("a key id has 32 lower-case hex digits")
	}
	return id, nil
}

// String returns 32 lower-case hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ContentKey is a key that encrypts files, with its public name. Whoever handed it out owns and wipes Key.
type ContentKey struct {
	ID  ID
	Key *Key
}

// Wipe zeroes b. Use it on every buffer that held a secret outside a Key.
func Wipe(b []byte) {
	clear(b)
	// Keeps the stores from being seen as dead.
	runtime.KeepAlive(&b)
}
