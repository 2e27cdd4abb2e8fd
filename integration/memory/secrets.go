package memory

import (
	"bytes"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	siteKeys "github.com/mailcryptfs/mailcryptfs/keyring/site"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// Secret is something to look for, and what it is.
type Secret struct {
	What  string
	Bytes []byte
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// SecretsOf opens a user's key record as the daemon does and returns what the daemon must forget: everything that the
// passwords lead to.
func SecretsOf(t testing.TB, s *harness.Site, user string, passwords ...[]byte) (all []Secret) {
	t.Helper()
	u := account.User(user)
	keys, err := siteKeys.Load(s.Secret)
	must(t, err)
	defer keys.Wipe()
	dir, err := records.Open(s.Store, keys.RecordMAC)
	must(t, err)
	defer dir.Close()
	rec, err := dir.Read(u)
	must(t, err)
	salt, err := keys.ArgonSalt(rec.Salt[:])
	must(t, err)
	add := func(what string, k *secret.Key) {
		must(t, k.Use(func(b []byte) error {
			all = append(all, Secret{what, bytes.Clone(b)})
			return nil
		}))
	}
	opened := false
	for _, password := range passwords {
		all = append(all, Secret{"password", password})
		for _, sl := range rec.Slots {
			if sl.Kind != slot.KindPassword {
				continue
			}
			hash, err := slot.Hash(bytes.Clone(password), slot.Salt(salt), sl.Params)
			must(t, err)
			seed, err := slot.PasswordSeed(hash, sl.ID)
			must(t, err)
			add("hash of a password", hash)
			add("key of a slot", seed)
			identity, err := slot.Unwrap(sl.Wrapped, seed, sl.Public, slot.Place{User: u, Kind: sl.Kind, Slot: sl.ID}, rec.Public[:])
			if err != nil || opened {
				continue
			}
			opened = true
			must(t, identity.Use(func(b []byte) error {
				all = append(all, Secret{"identity key", bytes.Clone(b)})
				return nil
			}))
			contentKeys(t, dir, rec.User, identity, add)
		}
	}
	if !opened {
		t.Fatal("no password opens a slot")
	}
	return all
}

// contentKeys adds what an identity opens: the user's own keys, and those under which mail came while the user was locked.
func contentKeys(t testing.TB, dir *records.Dir, rec *records.User, identity *slot.Identity, add func(what string, k *secret.Key)) {
	t.Helper()
	for _, ck := range rec.ContentKeys {
		k, err := identity.Open(rec.User, ck.ID, ck.Sealed)
		must(t, err)
		add("content key", k)
	}
	deliveries, err := dir.Deliveries(rec.User)
	must(t, err)
	for _, id := range deliveries {
		d, err := dir.Delivery(rec.User, id)
		must(t, err)
		k, err := identity.Open(rec.User, d.ID, d.Sealed)
		must(t, err)
		add("delivery key", k)
	}
}
