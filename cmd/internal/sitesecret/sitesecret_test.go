package sitesecret

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

func example() []byte {
	s := make([]byte, 32)
	for i := range s {
		s[i] = byte(i * 7)
	}
	return s
}

func TestPaper(t *testing.T) {
	t.Parallel()
	text := string(Paper(example()))
	if n := strings.Count(text, "\n"); n != 4 {
		t.Errorf("%d lines:\n%s", n, text)
	}
	for name, typed := range map[string]string{
		"as printed":   text,
		"capitals":     strings.ToUpper(text),
		"look-alikes":  strings.NewReplacer("0", "O", "1", "l").Replace(text),
		"one line":     strings.ReplaceAll(strings.ReplaceAll(text, "\n", " "), "-", ""),
		"carriage":     strings.ReplaceAll(text, "\n", "\r\n"),
		"the file":     string(site.Encode(example())),
		"a QR reader":  strings.TrimSpace(string(site.Encode(example()))),
		"with a blank": " " + text + "\t",
	} {
		got, err := Parse([]byte(typed))
		if err != nil || !bytes.Equal(got, example()) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}

func TestPaperMistyped(t *testing.T) {
	t.Parallel()
	text := Paper(example())
	swapped := strings.Fields(string(text))
	swapped[0], swapped[1] = swapped[1], swapped[0]
	for name, tt := range map[string]struct{ typed, want string }{
		"empty":          {"", "0 characters"},
		"cut short":      {string(text[:40]), "characters were given"},
		"first digit":    {"f" + string(text[1:]), "group 1"},
		"last group":     {strings.TrimSpace(string(text))[:len(text)-2] + "x", "group 8"},
		"swapped groups": {strings.Join(swapped, " "), "group 1"},
		"of the file":    {string(site.Encode(example())[:60]), "characters were given"},
	} {
		got, err := Parse([]byte(tt.typed))
		if !errors.Is(err, ErrText) || got != nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %x, %v; want %q", name, got, err, tt.want)
		}
	}
	// Of single wrong digits, one in 256 may go unnoticed by its group; none may be taken for the right secret.
	for i := range text {
		typed := bytes.Clone(text)
		if typed[i] == '-' || typed[i] == ' ' || typed[i] == '\n' {
			continue
		}
		typed[i] ^= 1
		if got, err := Parse(typed); err == nil && bytes.Equal(got, example()) {
			t.Errorf("digit %d does not matter", i)
		}
	}
}

func TestCredentialPath(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if got := CredentialPath("site.secret"); got != "/run/credentials/mailcryptfs.service/site.secret" {
		t.Error(got)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/credentials/other.service")
	if got := CredentialPath("x"); got != "/run/credentials/other.service/x" {
		t.Error(got)
	}
}
