package former

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

func key(t testing.TB, fill byte) *secret.Key {
	t.Helper()
	k, err := secret.NewKey(bytes.Repeat([]byte{fill}, secret.Size))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	mac := key(t, 1)
	for _, users := range [][]account.User{{"alice"}, {"alice@example.org", "b\xff\"ob", "c d"}} {
		b, err := Encode("0f-ab.1", users, mac)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(b, "0f-ab.1", mac)
		if err != nil || !slices.Equal(got, users) {
			t.Errorf("%q: %q, %v", users, got, err)
		}
		for name, bad := range map[string][]byte{
			"cut": b[:len(b)-1], "longer": append(slices.Clone(b), '\n'), "empty": nil,
			"other user": bytes.Replace(b, []byte(`["6`), []byte(`["7`), 1),
			"other case": bytes.Replace(b, []byte("ff"), []byte("FF"), 1),
		} {
			if bytes.Equal(bad, b) {
				continue
			}
			if got, err := Parse(bad, "0f-ab.1", mac); !errors.Is(err, ErrRecord) {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		for i := range b {
			bad := slices.Clone(b)
			bad[i] ^= 1
			if got, err := Parse(bad, "0f-ab.1", mac); !errors.Is(err, ErrRecord) {
				t.Errorf("byte %d changed: %q, %v", i, got, err)
			}
		}
		if _, err := Parse(b, "0f-ab.2", mac); !errors.Is(err, ErrRecord) {
			t.Errorf("of another mailbox: %v", err)
		}
		if _, err := Parse(b, "0f-ab.1", key(t, 2)); !errors.Is(err, ErrRecord) {
			t.Errorf("of another site: %v", err)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	mac := key(t, 1)
	for id, users := range map[string][]account.User{
		"": {"a"}, ".x": {"a"}, "a/b": {"a"}, "a\nb": {"a"}, strings.Repeat("a", 201): {"a"}, "none": nil, "many": make([]account.User, MaxUsers+1),
	} {
		if b, err := Encode(id, users, mac); err == nil {
			t.Errorf("%q: %s", id, b)
		}
	}
	if name, ok := FileName("ab12"); !ok || name != "ab12.toml" {
		t.Errorf("%q, %v", name, ok)
	}
	for name, want := range map[string]bool{"ab12.toml": true, "ab12": false, ".toml": false, ".ab.toml": false, "a b.toml": false} {
		if _, ok := ID(name); ok != want {
			t.Errorf("%q: %v", name, ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	mac := key(f, 1)
	b, err := Encode("id", []account.User{"alice", "bob"}, mac)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		users, err := Parse(b, "id", mac)
		if err != nil {
			return
		}
		again, err := Encode("id", users, mac)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q is taken", b)
		}
	})
}
