package slot

import (
	"errors"
	"fmt"

	"golang.org/x/crypto/argon2"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// Limits of Argon2id parameters (FORMAT.md K10). They bound what a record or a keyring entry can make this process
// spend.
const (
	MinMemoryKiB, MaxMemoryKiB = 8192, 1048576
	MinTime, MaxTime           = 1, 16
	MinThreads, MaxThreads     = 1, 8
)

// SaltSize is the length of an Argon2id salt in bytes.
const SaltSize = 16

// ErrParams says that Argon2id parameters are out of bounds.
var ErrParams = errors.New("argon2id parameters out of bounds")

// Params are the costs of one Argon2id run (RFC 9106).
type Params struct {
	MemoryKiB uint32 // memory, in KiB
	Time      uint32 // passes over the memory
	Threads   uint8  // lanes
}

// Default are the parameters of new slots: 64 MiB, three passes, one lane. About 0.2 s.
var Default = Params{MemoryKiB: 65536, Time: 3, Threads: 1}

// Check returns an error that wraps ErrParams unless all of p is within the limits of FORMAT.md K10.
func (p Params) Check() error {
	switch {
	case p.MemoryKiB < MinMemoryKiB || p.MemoryKiB > MaxMemoryKiB:
		return fmt.Errorf("%w: memory is %d KiB, allowed are %d to %d", ErrParams, p.MemoryKiB, MinMemoryKiB, MaxMemoryKiB)
	case p.Time < MinTime || p.Time > MaxTime:
		return fmt.Errorf("%w: time is %d, allowed are %d to %d", ErrParams, p.Time, MinTime, MaxTime)
	case p.Threads < MinThreads || p.Threads > MaxThreads:
		return fmt.Errorf("%w: threads are %d, allowed are %d to %d", ErrParams, p.Threads, MinThreads, MaxThreads)
	}
	return nil
}

// Salt is what Argon2id takes beside the password: derived from the site secret and the user's salt (FORMAT.md K1).
type Salt [SaltSize]byte

// Hash runs Argon2id over the password (FORMAT.md K5): the H of a keyring entry. It takes p.MemoryKiB of memory while
// it runs; callers bound the number of runs. The password stays the caller's to wipe; the caller wipes the result.
// Errors: ErrParams, secret.ErrMemory.
func Hash(password []byte, salt Salt, p Params) (*secret.Key, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	var k *secret.Key
	var err error
	secret.Do(func() {
		k, err = secret.NewKey(argon2.IDKey(password, salt[:], p.Time, p.MemoryKiB, p.Threads, secret.Size))
	})
	return k, err
}
