package slot

import (
	"bytes"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// TestPasswordSeed and TestWrapFormat write K6 out once more, with other code.
func TestPasswordSeed(t *testing.T) {
	t.Parallel()
	id := ID{1, 2, 3, 4, 5, 6, 7, 8}
	h := newKey(t, 5)
	seed, err := PasswordSeed(h, id)
	if err != nil {
		t.Fatal(err)
	}
	defer seed.Wipe()
	m := hmac.New(sha256.New, keyBytes(t, h))
	m.Write([]byte("mailcryptfs slot v1\x00\x01\x02\x03\x04\x05\x06\x07\x08\x01"))
	if got := keyBytes(t, seed); !bytes.Equal(got, m.Sum(nil)) {
		t.Errorf("got %x", got)
	}
}

func TestWrapFormat(t *testing.T) {
	t.Parallel()
	seed, identity := newKey(t, 5), newIdentity(t)
	at := Place{alice, KindPassword, ID{1, 2, 3, 4, 5, 6, 7, 8}}
	w, err := Wrap(identity, publicOf(t, seed), at)
	if err != nil || len(w) != 1168 {
		t.Fatalf("%d bytes, %v", len(w), err)
	}
	slotKey, err := hpke.MLKEM768X25519().NewPrivateKey(keyBytes(t, seed))
	if err != nil {
		t.Fatal(err)
	}
	info := "mailcryptfs slot v1\x00password\x00alice@example.org\x00\x01\x02\x03\x04\x05\x06\x07\x08"
	private, err := hpke.Open(slotKey, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(info), w)
	if err != nil {
		t.Fatal(err)
	}
	key, err := hpke.MLKEM768X25519().NewPrivateKey(private)
	if err != nil || !bytes.Equal(key.PublicKey().Bytes(), identity.Public().Bytes()) {
		t.Errorf("it is not the identity: %v", err)
	}
}

func TestUnwrap(t *testing.T) {
	t.Parallel()
	seed, identity := newKey(t, 5), newIdentity(t)
	to := publicOf(t, seed)
	public := identity.Public().Bytes()
	at := Place{alice, KindPassword, ID{1}}
	w, err := Wrap(identity, to, at)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Unwrap(w, seed, to.Bytes(), at, public)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Wipe()
	if !bytes.Equal(keyBytes(t, got.seed), keyBytes(t, identity.seed)) {
		t.Error("another identity came out")
	}
	again, err := Wrap(identity, to, at)
	if err != nil || bytes.Equal(again, w) {
		t.Errorf("wrapped twice in the same way: %v", err)
	}

	type test struct {
		name    string
		wrapped []byte
		seed    *secret.Key
		at      Place
		public  []byte
		want    error
	}
	tests := []test{
		{"other seed", w, newKey(t, 6), at, public, ErrWrongSecret},
		{"other user", w, seed, Place{"bob", KindPassword, ID{1}}, public, ErrWrongSecret},
		{"other kind", w, seed, Place{alice, KindCode, ID{1}}, public, ErrWrongSecret},
		{"other slot", w, seed, Place{alice, KindPassword, ID{2}}, public, ErrWrongSecret},
		{"short", w[:1167], seed, at, public, ErrWrongSecret},
		{"empty", nil, seed, at, public, ErrWrongSecret},
		{"long", append(bytes.Clone(w), 0), seed, at, public, ErrWrongSecret},
		{"other identity", w, seed, at, newIdentity(t).Public().Bytes(), ErrForeign},
		{"no public half", w, seed, at, nil, ErrForeign},
	}
	for i := 0; i < len(w); i += 29 {
		flipped := bytes.Clone(w)
		flipped[i] ^= 1
		tests = append(tests, test{fmt.Sprintf("bit of byte %d", i), flipped, seed, at, public, ErrWrongSecret})
	}
	for _, tt := range tests {
		if _, err := Unwrap(tt.wrapped, tt.seed, to.Bytes(), tt.at, tt.public); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if _, err := Unwrap(w, seed, identity.Public().Bytes(), at, public); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("another slot's public half: %v", err)
	}
}

func TestID(t *testing.T) {
	t.Parallel()
	id := RandomID()
	if got, err := ParseID(id.String()); err != nil || got != id {
		t.Errorf("%v, %v", got, err)
	}
	var got ID
	if b, err := json.Marshal(id); err != nil || string(b) != `"`+id.String()+`"` || json.Unmarshal(b, &got) != nil || got != id {
		t.Errorf("JSON %s, %v", b, err)
	}
	for _, s := range []string{"", "00", strings.Repeat("0", 15), strings.Repeat("0", 17), strings.Repeat("A", 16), strings.Repeat("x", 16)} {
		if _, err := ParseID(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

func BenchmarkUnwrap(b *testing.B) {
	identity, seed, at := newIdentity(b), newKey(b, 1), Place{User: alice}
	to := publicOf(b, seed)
	w, err := Wrap(identity, to, at)
	if err != nil {
		b.Fatal(err)
	}
	public := identity.Public().Bytes()
	for b.Loop() {
		got, err := Unwrap(w, seed, to.Bytes(), at, public)
		if err != nil {
			b.Fatal(err)
		}
		got.Wipe()
	}
}
