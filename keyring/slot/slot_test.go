package slot

import (
	"bytes"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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

func TestParamsCheck(t *testing.T) {
	t.Parallel()
	tests := []struct {
		p  Params
		ok bool
	}{
		{Default, true},
		{Params{8192, 1, 1}, true},
		{Params{1048576, 16, 8}, true},
		{Params{8191, 1, 1}, false},
		{Params{1048577, 1, 1}, false},
		{Params{8192, 0, 1}, false},
		{Params{8192, 17, 1}, false},
		{Params{8192, 1, 0}, false},
		{Params{8192, 1, 9}, false},
		{Params{}, false},
	}
	for _, tt := range tests {
		if err := tt.p.Check(); (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrParams) {
			t.Errorf("%+v: %v", tt.p, err)
		}
	}
	if _, err := Hash(nil, Salt{}, Params{}); !errors.Is(err, ErrParams) {
		t.Errorf("Hash: %v", err)
	}
}

// TestHash compares with the reference implementation:
// printf 'correct horse' | argon2 saltsaltsaltsalt -id -t 2 -k 8192 -p 2 -l 32 -e -v 13
func TestHash(t *testing.T) {
	t.Parallel()
	const want = "$argon2id$v=19$m=8192,t=2,p=2$c2FsdHNhbHRzYWx0c2FsdA$M4F5rJUNM7aZUekzV0IaoyR/GwRGEcHXXuhAyoDkwZs\n"
	e := Entry{Params: Params{8192, 2, 2}, Salt: Salt([]byte("saltsaltsaltsalt"))}
	var err error
	if e.Hash, err = Hash([]byte("correct horse"), e.Salt, e.Params); err != nil {
		t.Fatal(err)
	}
	defer e.Hash.Wipe()
	if got, err := e.Encode(); err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
}

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

func publicOf(tb testing.TB, seed *secret.Key) *Public {
	tb.Helper()
	p, err := PublicOf(seed)
	if err != nil {
		tb.Fatal(err)
	}
	return p
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

func TestParseEntryRefuses(t *testing.T) {
	t.Parallel()
	const good = "$argon2id$v=19$m=8192,t=2,p=2$c2FsdHNhbHRzYWx0c2FsdA$M4F5rJUNM7aZUekzV0IaoyR/GwRGEcHXXuhAyoDkwZs\n"
	e, err := ParseEntry([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	e.Hash.Wipe()
	replace := func(old, new string) string {
		s := strings.Replace(good, old, new, 1)
		if s == good {
			t.Fatalf("%q is not in the entry", old)
		}
		return s
	}
	tests := []struct {
		name, in string
		want     error
	}{
		{"empty", "", ErrEntry},
		{"no newline", good[:len(good)-1], ErrEntry},
		{"two newlines", good + "\n", ErrEntry},
		{"carriage return", replace("\n", "\r\n"), ErrEntry},
		{"newline within", replace("M4F5", "M4\n5"), ErrEntry},
		{"argon2i", replace("argon2id", "argon2i"), ErrEntry},
		{"old version", replace("v=19", "v=16"), ErrEntry},
		{"no version", replace("v=19$", ""), ErrEntry},
		{"leading zero", replace("t=2", "t=02"), ErrEntry},
		{"sign", replace("t=2", "t=+2"), ErrEntry},
		{"order", replace("t=2,p=2", "p=2,t=2"), ErrEntry},
		{"more parameters", replace("p=2", "p=2,q=1"), ErrEntry},
		{"fewer parameters", replace(",p=2", ""), ErrEntry},
		{"huge memory", replace("m=8192", "m=1048577"), ErrParams},
		{"overflow", replace("m=8192", "m=4294975488"), ErrEntry},
		{"little memory", replace("m=8192", "m=8191"), ErrParams},
		{"much time", replace("t=2", "t=17"), ErrParams},
		{"no threads", replace("p=2", "p=0"), ErrParams},
		{"many threads", replace("p=2", "p=258"), ErrEntry},
		{"padding", replace("c2FsdA$", "c2FsdA==$"), ErrEntry},
		{"trailing bits of the salt", replace("c2FsdA$", "c2FsdB$"), ErrEntry},
		{"trailing bits of the hash", replace("wZs\n", "wZt\n"), ErrEntry},
		{"base64url", replace("yR/G", "yR_G"), ErrEntry},
		{"short salt", replace("c2FsdA$", "c2Fs$"), ErrEntry},
		{"short hash", replace("wZs\n", "\n"), ErrEntry},
		{"no hash", good[:strings.LastIndex(good, "$")] + "\n", ErrEntry},
		{"another field", replace("wZs\n", "wZs$x\n"), ErrEntry},
	}
	for _, tt := range tests {
		if _, err := ParseEntry([]byte(tt.in)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func FuzzParseEntry(f *testing.F) {
	dir := filepath.Join("testdata", "fuzz", f.Name())
	if entries, err := os.ReadDir(dir); err != nil || len(entries) == 0 {
		f.Fatalf("no seeds in %s: %v", dir, err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEntry(b)
		if err != nil {
			return
		}
		defer e.Hash.Wipe()
		again, err := e.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q became %q, %v", b, again, err)
		}
	})
}

func BenchmarkHashDefault(b *testing.B) {
	for b.Loop() {
		k, err := Hash([]byte("correct horse"), Salt{}, Default)
		if err != nil {
			b.Fatal(err)
		}
		k.Wipe()
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
