package slot

import (
	"bytes"
	"crypto/hpke"
	"errors"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

func TestPrevious(t *testing.T) {
	t.Parallel()
	old, now := newIdentity(t), newIdentity(t)
	sealed, err := now.Public().SealPrevious(alice, old)
	if err != nil {
		t.Fatal(err)
	}
	public := old.Public().Bytes()
	got, err := now.OpenPrevious(alice, sealed, public)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(keyBytes(t, got.seed), keyBytes(t, old.seed)) {
		t.Error("another identity came out")
	}
	got.Wipe()
	for name, open := range map[string]func() (*Identity, error){
		"other user":     func() (*Identity, error) { return now.OpenPrevious("bob", sealed, public) },
		"other identity": func() (*Identity, error) { return old.OpenPrevious(alice, sealed, public) },
		"other public":   func() (*Identity, error) { return now.OpenPrevious(alice, sealed, now.Public().Bytes()) },
	} {
		if _, err := open(); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCloneAndFromSeed(t *testing.T) {
	t.Parallel()
	id := newIdentity(t)
	again, err := id.Clone()
	if err != nil {
		t.Fatal(err)
	}
	want := keyBytes(t, id.seed)
	id.Wipe()
	if got := keyBytes(t, again.seed); !bytes.Equal(got, want) {
		t.Error("the clone is another")
	}
	again.Wipe()
	if _, err := again.Clone(); !errors.Is(err, secret.ErrWiped) {
		t.Errorf("clone of a wiped one: %v", err)
	}
	seed := bytes.Clone(want)
	same, err := FromSeed(seed, id.Public().Bytes())
	if err != nil || !bytes.Equal(seed, make([]byte, secret.Size)) {
		t.Fatalf("%v, seed %x", err, seed)
	}
	same.Wipe()
	if _, err := FromSeed(bytes.Clone(want), newIdentity(t).Public().Bytes()); !errors.Is(err, ErrForeign) {
		t.Errorf("of another public half: %v", err)
	}
}

func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	identity := newIdentity(t)
	public, err := ParsePublic(identity.Public().Bytes())
	if err != nil {
		t.Fatal(err)
	}
	ck := secret.ContentKey{ID: secret.RandomID(), Key: newKey(t, 9)}
	sealed, err := public.Seal(alice, ck)
	if err != nil || len(sealed) != SealedSize {
		t.Fatalf("%d bytes, %v", len(sealed), err)
	}
	got, err := identity.Open(alice, ck.ID, sealed)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Wipe()
	if !bytes.Equal(keyBytes(t, got), keyBytes(t, ck.Key)) {
		t.Error("another key came out")
	}

	flipped := bytes.Clone(sealed)
	flipped[600] ^= 1
	for name, open := range map[string]func() (*secret.Key, error){
		"other user":     func() (*secret.Key, error) { return identity.Open("bob", ck.ID, sealed) },
		"other id":       func() (*secret.Key, error) { return identity.Open(alice, secret.ID{}, sealed) },
		"other identity": func() (*secret.Key, error) { return newIdentity(t).Open(alice, ck.ID, sealed) },
		"short":          func() (*secret.Key, error) { return identity.Open(alice, ck.ID, sealed[:SealedSize-1]) },
		"flipped":        func() (*secret.Key, error) { return identity.Open(alice, ck.ID, flipped) },
	} {
		if _, err := open(); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	identity.Wipe()
	if _, err := identity.Open(alice, ck.ID, sealed); !errors.Is(err, secret.ErrWiped) {
		t.Errorf("after Wipe: %v", err)
	}
	if _, err := Wrap(identity, publicOf(t, newKey(t, 1)), Place{}); !errors.Is(err, secret.ErrWiped) {
		t.Errorf("Wrap after Wipe: %v", err)
	}
	ck.Key.Wipe()
	if _, err := public.Seal(alice, ck); !errors.Is(err, secret.ErrWiped) {
		t.Errorf("Seal of a wiped key: %v", err)
	}
}

// TestOpenWithLibrary opens what Seal made with nothing of ours but the seed.
func TestOpenWithLibrary(t *testing.T) {
	t.Parallel()
	identity := newIdentity(t)
	ck := secret.ContentKey{ID: secret.ID{0xaa}, Key: newKey(t, 9)}
	sealed, err := identity.Public().Seal(alice, ck)
	if err != nil {
		t.Fatal(err)
	}
	key, err := hpke.MLKEM768X25519().NewPrivateKey(keyBytes(t, identity.seed))
	if err != nil {
		t.Fatal(err)
	}
	info := "mailcryptfs content key v1\x00alice@example.org\x00\xaa" + strings.Repeat("\x00", 15)
	plain, err := hpke.Open(key, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(info), sealed)
	if err != nil || !bytes.Equal(plain, keyBytes(t, ck.Key)) {
		t.Errorf("%x, %v", plain, err)
	}
}

func TestParsePublicRefuses(t *testing.T) {
	t.Parallel()
	good := newIdentity(t).Public().Bytes()
	for name, b := range map[string][]byte{
		"empty": nil, "short": good[:PublicSize-1], "long": append(bytes.Clone(good), 0),
		// Coefficients of an ML-KEM key are below 3329.
		"not a key": bytes.Repeat([]byte{0xff}, PublicSize),
	} {
		if _, err := ParsePublic(b); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	public, ck := newIdentity(b).Public(), secret.ContentKey{Key: newKey(b, 1)}
	for b.Loop() {
		if _, err := public.Seal(alice, ck); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	identity, ck := newIdentity(b), secret.ContentKey{Key: newKey(b, 1)}
	sealed, err := identity.Public().Seal(alice, ck)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		k, err := identity.Open(alice, ck.ID, sealed)
		if err != nil {
			b.Fatal(err)
		}
		k.Wipe()
	}
}
