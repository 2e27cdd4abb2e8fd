package slot

import (
	"bytes"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

const alice account.User = "alice@example.org"

func newKey(tb testing.TB, fill byte) *secret.Key {
	tb.Helper()
	k, err := secret.NewKey(bytes.Repeat([]byte{fill}, secret.Size))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(k.Wipe)
	return k
}

func newIdentity(tb testing.TB) *Identity {
	tb.Helper()
	id, err := NewIdentity()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(id.Wipe)
	return id
}

func keyBytes(tb testing.TB, k *secret.Key) []byte {
	tb.Helper()
	var out []byte
	if err := k.Use(func(b []byte) error { out = bytes.Clone(b); return nil }); err != nil {
		tb.Fatal(err)
	}
	return out
}

func publicOf(tb testing.TB, seed *secret.Key) *Public {
	tb.Helper()
	p, err := PublicOf(seed)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}
