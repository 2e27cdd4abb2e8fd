package recovery

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"testing"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 12, 13, 14, 31, 77, 500, maxSecret} {
		for _, c := range []struct{ n, k int }{{2, 2}, {3, 2}, {5, 3}, {MaxShares, MaxShares}} {
			if size == maxSecret && c.n > 5 {
				continue
			}
			s := bytes.Repeat([]byte{0xff}, size)
			shares, err := Split(s, c.n, c.k)
			must(t, err)
			if len(shares) != c.n {
				t.Fatalf("%d shares", len(shares))
			}
			// The last k, backwards, one of them twice.
			var some [][]byte
			for i := range c.k {
				some = append(some, shares[c.n-1-i])
			}
			got, err := Combine(append(some, some[0]))
			if err != nil || !bytes.Equal(got, s) {
				t.Errorf("%d bytes, %d of %d: %v", size, c.k, c.n, err)
			}
			if _, err := Combine(append(some[:c.k-1:c.k-1], some[0])); !errors.Is(err, ErrTooFew) {
				t.Errorf("%d bytes, %d of %d, too few: %v", size, c.k, c.n, err)
			}
			info, err := ReadShare(shares[1])
			if err != nil || info.Number != 2 || info.Of != c.n || info.Needed != c.k || len(info.Set) != 16 {
				t.Errorf("%+v, %v", info, err)
			}
		}
	}
}

// TestEverySubset tries all subsets of the shares of one secret.
func TestEverySubset(t *testing.T) {
	t.Parallel()
	s := []byte("AGE-SECRET-KEY-1QQPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQQUTKP3")
	const n, k = 6, 4
	shares, err := Split(s, n, k)
	must(t, err)
	for set := range uint(1 << n) {
		var some [][]byte
		for i := range n {
			if set&(1<<i) != 0 {
				some = append(some, shares[i])
			}
		}
		got, err := Combine(some)
		if bits.OnesCount(set) >= k {
			if err != nil || !bytes.Equal(got, s) {
				t.Errorf("set %b: %v", set, err)
			}
		} else if !errors.Is(err, ErrTooFew) {
			t.Errorf("set %b: %v", set, err)
		}
	}
}

// TestBelowThreshold takes k-1 shares, pretends that k-1 are enough, and gets nothing: neither the secret, nor a value
// that would be the same twice, nor one that depends on the secret in a way that can be seen.
func TestBelowThreshold(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	var ones [2]int
	const rounds = 200
	for round := range rounds {
		s := bytes.Repeat([]byte{byte(round % 2 * 255)}, 64)
		shares, err := Split(s, 5, 3)
		must(t, err)
		var two []share
		for _, text := range shares[:2] {
			x, err := parseShare(text)
			must(t, err)
			if bytes.Contains(x.values, s[:8]) || seen[string(x.values)] {
				t.Fatal("a share tells something")
			}
			seen[string(x.values)] = true
			x.Needed = 2
			two = append(two, x)
			for _, b := range x.values {
				ones[round%2] += bits.OnesCount8(b)
			}
		}
		if got, err := combine(two); err == nil {
			t.Fatalf("two shares gave %x", got)
		}
	}
	// The shares of all zeros and of all ones have as many bits set, within five standard deviations.
	a, b := float64(ones[0]), float64(ones[1])
	if d := a - b; d*d > 25*2*(a+b)/4*2 {
		t.Errorf("%v and %v bits are set", a, b)
	}
}

func TestCombineErrors(t *testing.T) {
	t.Parallel()
	first, err := Split([]byte("one secret"), 3, 2)
	must(t, err)
	second, err := Split([]byte("two secret"), 3, 2)
	must(t, err)
	if _, err := Combine([][]byte{first[0], second[1]}); !errors.Is(err, ErrShares) {
		t.Errorf("two sets: %v", err)
	}
	if _, err := Combine(nil); !errors.Is(err, ErrTooFew) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := Combine([][]byte{first[0], first[1][:100]}); !errors.Is(err, ErrTruncated) || !strings.Contains(err.Error(), "place 2") {
		t.Errorf("cut: %v", err)
	}
	// A share of another secret that claims to be of this set.
	x, err := parseShare(first[0])
	must(t, err)
	y, err := parseShare(second[1])
	must(t, err)
	if _, err := combine([]share{x, y}); !errors.Is(err, ErrShares) {
		t.Errorf("a forged share: %v", err)
	}
	for _, c := range []struct{ size, n, k int }{{0, 3, 2}, {maxSecret + 1, 3, 2}, {1, 3, 1}, {1, 2, 3}, {1, MaxShares + 1, 2}} {
		if _, err := Split(make([]byte, c.size), c.n, c.k); err == nil {
			t.Errorf("split: %+v", c)
		}
	}
	body := fmt.Appendf(nil, "version = 1\nset = \"0011223344556677\"\nnumber = 4\nof = 3\nneeded = 2\nvalues = \"%s=\"\n", strings.Repeat("A", 43))
	if _, err := ReadShare(armour(kindShare, body)); !errors.Is(err, ErrDamaged) {
		t.Errorf("share 4 of 3: %v", err)
	}
}
