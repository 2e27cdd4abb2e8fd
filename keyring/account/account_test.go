package account

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	good := []string{"a", "alice", "alice@example.org", "a b", "a/b", "...", "..a", "ü", "\xff", "%", strings.Repeat("x", 1024), "a/.b"}
	for _, s := range good {
		if u, err := Parse(s); err != nil || string(u) != s {
			t.Errorf("%q: %q, %v", s, u, err)
		}
	}
	bad := []string{"", ".", "..", "a/", "/a", "a//b", "a/../b", "a/.", "./a", "/", "a\x00b", "a\nb", strings.Repeat("x", 1025)}
	for _, s := range bad {
		if _, err := Parse(s); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestEscape(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, want string }{
		{"alice@example.org", "alice@example.org"},
		{"AZaz09._-@+=", "AZaz09._-@+="},
		{".alice", "%2Ealice"},
		{"...", "%2E.."},
		{"a/b", "a%2Fb"},
		{"100%", "100%25"},
		{"ü", "%C3%BC"},
		{"a b", "a%20b"},
		{"%h", "%25h"},
		{strings.Repeat("x", 200), strings.Repeat("x", 200)},
	}
	for _, tt := range tests {
		got := User(tt.name).Escape()
		if got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.name, got, tt.want)
		}
		if u, err := Unescape(got); err != nil || string(u) != tt.name {
			t.Errorf("%q: back to %q, %v", tt.name, u, err)
		}
	}
}

func TestEscapeHash(t *testing.T) {
	t.Parallel()
	// printf 'x%.0s' $(seq 201) | sha256sum
	const want = "%h84a0678c90937f5dcf9994d5866668da6b995109c8ad845410559b48a4ecafed"
	if got := User(strings.Repeat("x", 201)).Escape(); got != want {
		t.Errorf("got %s", got)
	}
	// 67 bytes become 201.
	if got := User(strings.Repeat("/", 67)).Escape(); !isHashed(got) {
		t.Errorf("got %s", got)
	}
}

func TestUnescapeRefuses(t *testing.T) {
	t.Parallel()
	bad := []string{"", ".", "..", ".alice", "a/b", "a b", "%", "%2", "%2e", "%2f", "%41", "%zz", "ü", "%00", "%0A", "a%2F",
		"%h", "%h00", "%H" + strings.Repeat("0", 64), "%h" + strings.Repeat("A", 64), strings.Repeat("x", 201), "a%2F.."}
	for _, s := range bad {
		if u, err := Unescape(s); !errors.Is(err, ErrEscaped) {
			t.Errorf("%q: %q, %v", s, u, err)
		}
	}
	if _, err := Unescape("%h" + strings.Repeat("0", 64)); !errors.Is(err, ErrHashed) {
		t.Errorf("hash: %v", err)
	}
}

func FuzzUnescape(f *testing.F) {
	requireSeeds(f)
	f.Fuzz(func(t *testing.T, s string) {
		u, err := Unescape(s)
		if err == nil {
			if got := u.Escape(); got != s {
				t.Errorf("%q became %q and then %q", s, u, got)
			}
		}
		// The other way round: whatever is a user name survives.
		u, err = Parse(s)
		if err != nil {
			return
		}
		e := u.Escape()
		if len(e) > maxEscaped || strings.Contains(e, "/") || strings.HasPrefix(e, ".") {
			t.Errorf("%q escapes to %q", s, e)
		}
		back, err := Unescape(e)
		if back != u && !(errors.Is(err, ErrHashed) && isHashed(e)) {
			t.Errorf("%q escapes to %q, which is %q, %v", s, e, back, err)
		}
	})
}

// requireSeeds fails a fuzz target whose seed folder is empty: it would test nothing.
func requireSeeds(f *testing.F) {
	f.Helper()
	dir := filepath.Join("testdata", "fuzz", f.Name())
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		f.Fatalf("no seeds in %s: %v", dir, err)
	}
}
