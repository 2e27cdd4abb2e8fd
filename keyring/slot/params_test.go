package slot

import (
	"errors"
	"testing"
)

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

func BenchmarkHashDefault(b *testing.B) {
	for b.Loop() {
		k, err := Hash([]byte("correct horse"), Salt{}, Default)
		if err != nil {
			b.Fatal(err)
		}
		k.Wipe()
	}
}
