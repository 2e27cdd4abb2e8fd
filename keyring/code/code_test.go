package code

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func sample(tb testing.TB, first byte) Code {
	tb.Helper()
	b := make([]byte, secret.Size)
	for i := range size {
		b[i] = first + byte(i)*7
	}
	key, err := secret.NewKey(b)
	must(tb, err)
	tb.Cleanup(key.Wipe)
	return Code{key}
}

func raw(tb testing.TB, c Code) []byte {
	tb.Helper()
	var out []byte
	must(tb, c.key.Use(func(b []byte) error { out = bytes.Clone(b); return nil }))
	return out
}

func textOf(tb testing.TB, c Code) string {
	tb.Helper()
	text, err := c.Text()
	must(tb, err)
	return string(text)
}

// TestText pins the example of FORMAT.md K20.
func TestText(t *testing.T) {
	t.Parallel()
	const want = "M2GTD-58X4Q-MPKA0-FA59S-NANT3-SBDE7-NYRB1-3CNKN"
	b := make([]byte, secret.Size)
	for i := range size {
		b[i] = byte(0xa0 + i)
	}
	key, err := secret.NewKey(b)
	must(t, err)
	defer key.Wipe()
	c := Code{key}
	text := textOf(t, c)
	if text != want || len(text) != TextSize {
		t.Errorf("text %q", text)
	}
	back, err := Parse([]byte(text))
	must(t, err)
	defer back.Wipe()
	if !bytes.Equal(raw(t, back), raw(t, c)) {
		t.Errorf("%q came back as %x", text, raw(t, back))
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for range 200 {
		c, err := Generate()
		must(t, err)
		text := textOf(t, c)
		if seen[text] {
			t.Fatalf("%s twice", text)
		}
		seen[text] = true
		back, err := Parse([]byte(text))
		must(t, err)
		if !bytes.Equal(raw(t, back), raw(t, c)) {
			t.Fatalf("%s came back as %s", text, textOf(t, back))
		}
		back.Wipe()
		c.Wipe()
	}
}

func TestTolerates(t *testing.T) {
	t.Parallel()
	c := sample(t, 3)
	text := textOf(t, c)
	look := strings.NewReplacer("0", "o", "1", "l")
	for _, typed := range []string{
		strings.ToLower(text), strings.ReplaceAll(text, "-", ""), strings.ReplaceAll(text, "-", " \t"), " " + text + "\r\n",
		look.Replace(text), strings.ToUpper(look.Replace(text)), strings.ReplaceAll(text, "1", "i"), strings.ReplaceAll(text, "1", "I"),
	} {
		back, err := Parse([]byte(typed))
		if err != nil || !bytes.Equal(raw(t, back), raw(t, c)) {
			t.Errorf("%q: %v", typed, err)
		}
		back.Wipe()
	}
}

// TestNotices makes every single mistake, exchange of neighbours, and exchange of groups.
func TestNotices(t *testing.T) {
	t.Parallel()
	text := textOf(t, sample(t, 5))
	refused := func(typed string, group int) {
		t.Helper()
		_, err := Parse([]byte(typed))
		if !errors.Is(err, ErrCode) {
			t.Errorf("%q was taken: %v", typed, err)
		} else if group > 0 && !strings.Contains(err.Error(), fmt.Sprintf("group %d ", group)) {
			t.Errorf("%q: %v, want group %d", typed, err, group)
		}
	}
	for i := range len(text) {
		if text[i] == '-' {
			continue
		}
		for _, r := range alphabet + "U*é" {
			if byte(r) != text[i] {
				refused(text[:i]+string(r)+text[i+1:], i/6+1)
			}
		}
		if i+1 < len(text) && text[i+1] != '-' && text[i] != text[i+1] {
			refused(text[:i]+text[i+1:i+2]+text[i:i+1]+text[i+2:], i/6+1)
		}
	}
	parts := strings.Split(text, "-")
	for i := range parts {
		for j := range i {
			if parts[i] != parts[j] {
				swapped := append([]string(nil), parts...)
				swapped[i], swapped[j] = swapped[j], swapped[i]
				refused(strings.Join(swapped, "-"), j+1)
			}
		}
	}
	refused("", 0)
	refused(text[:len(text)-1], 0)
	refused(text+"0", 0)
}

func TestSeed(t *testing.T) {
	t.Parallel()
	c := sample(t, 9)
	at := slot.Place{User: "alice", Kind: slot.KindCode, Slot: slot.ID{1}}
	seeds := make(map[string]string)
	for name, make := range map[string]func() (*secret.Key, error){
		"same":       func() (*secret.Key, error) { return c.Seed(at) },
		"other user": func() (*secret.Key, error) { return c.Seed(slot.Place{User: "bob", Slot: at.Slot}) },
		"other slot": func() (*secret.Key, error) { return c.Seed(slot.Place{User: "alice"}) },
		"other code": func() (*secret.Key, error) { return sample(t, 8).Seed(at) },
	} {
		k, err := make()
		must(t, err)
		seed := raw(t, Code{k})
		if was, ok := seeds[string(seed)]; ok {
			t.Errorf("%s and %s have one seed", was, name)
		}
		seeds[string(seed)] = name
		k.Wipe()
	}
	c.Wipe()
	if _, err := c.Seed(at); !errors.Is(err, secret.ErrWiped) {
		t.Errorf("after Wipe: %v", err)
	}
	if _, err := c.Text(); !errors.Is(err, secret.ErrWiped) {
		t.Errorf("text after Wipe: %v", err)
	}
	Code{}.Wipe()
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("00000-00000"))
	b, err := sample(f, 1).Text()
	must(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse(text)
		if err != nil {
			if !errors.Is(err, ErrCode) {
				t.Fatal(err)
			}
			return
		}
		defer c.Wipe()
		again, err := Parse([]byte(textOf(t, c)))
		must(t, err)
		defer again.Wipe()
		if !bytes.Equal(raw(t, again), raw(t, c)) {
			t.Errorf("%q came back as another code", text)
		}
	})
}
