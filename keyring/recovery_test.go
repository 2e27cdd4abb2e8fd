package keyring

import (
	"bytes"
	"testing"

	"filippo.io/age"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
)

// recoveryKey makes an age key pair.
func recoveryKey(tb testing.TB, hybrid bool) (recovery.Recipient, []age.Identity) {
	tb.Helper()
	var b bytes.Buffer
	r, err := recovery.Generate(&b, hybrid)
	must(tb, err)
	ids, err := recovery.ReadIdentities(&b)
	must(tb, err)
	return r, ids
}

// newRecoverable is a ring that gives a recovery key to its users, who are enrolled with the password "pw", and the
// identities of that key.
func newRecoverable(tb testing.TB, hybrid bool, users ...account.User) (*fixture, *Ring, []age.Identity) {
	tb.Helper()
	f := newFixture(tb)
	recipient, ids := recoveryKey(tb, hybrid)
	f.Recipients = []recovery.Recipient{recipient}
	r := f.open(tb)
	for _, u := range users {
		must(tb, r.Enroll(tb.Context(), u, []byte("pw"), "test"))
	}
	return f, r, ids
}
