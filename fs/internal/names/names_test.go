package names

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/seal"
)

func TestCheck(t *testing.T) { // N1
	t.Parallel()
	for _, name := range []string{"a", "...", ".a", " ", "\n", "\xff", strings.Repeat("x", 255), "mc1=x"} {
		if err := Check(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "/", "a/b", "\x00", "a\x00", strings.Repeat("x", 256)} {
		if Check(name) == nil {
			t.Errorf("%q is allowed", name)
		}
	}
}

// TestCreate checks N3, N4 and N6: which stored name a new entry gets, and that it reads as what it was.
func TestCreate(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("l", 173)
	for _, tt := range []struct {
		plain, regular, root bool
		name                 string
		prefix               string // "" for the name itself
		kind                 Kind
	}{
		{false, true, false, "a", "mc1=", Encrypted},
		{false, false, false, "a", "mc1=", Encrypted},
		{false, true, true, ".mailcryptfs", "mc1=", Encrypted},
		{false, true, false, strings.Repeat("s", 172), "mc1=", Encrypted},
		{false, true, false, long, "mc1+", Encrypted},
		{false, false, false, strings.Repeat("l", 255), "mc1+", Encrypted},
		{true, true, false, "a", "mc1~a", PlainNamed},
		{true, false, false, "a", "", Plain},
		{true, true, false, strings.Repeat("p", 251), "mc1~p", PlainNamed},
		{true, true, false, strings.Repeat("p", 252), "mc1+", Encrypted},
		{true, false, false, strings.Repeat("p", 255), "", Plain},
		{true, false, false, "mc1=x", "mc1~mc1=x", PlainNamed},
		{true, false, false, "mc2~x", "mc1~mc2~x", PlainNamed},
		{true, false, false, "mc1!x", "mc1~mc1!x", PlainNamed},
		{true, false, true, ".mailcryptfs", "mc1~.mailcryptfs", PlainNamed},
		{true, false, false, ".mailcryptfs", "", Plain},
		{true, false, false, "mc1=" + strings.Repeat("x", 248), "mc1+", Encrypted},
		{true, true, false, "mc1~x", "mc1~mc1~x", PlainNamed},
	} {
		c, _ := newCodec(t, tt.plain)
		s := c.Create(tt.name, tt.regular, tt.root)
		if s.Kind != tt.kind || !strings.HasPrefix(s.Name, tt.prefix) || tt.prefix == "" && s.Name != tt.name || len(s.Name) > MaxStored {
			t.Errorf("%q: stored as %q, kind %d", tt.name, s.Name, s.Kind)
		}
		if got := viewOf(t, c, s.Name, tt.root, c.SideContent(tt.name)); got != tt.name {
			t.Errorf("%q: stored as %q, read as %q", tt.name, s.Name, got)
		}
		if s.Kind == Plain && !c.CanBePlain(tt.name, tt.root) {
			t.Errorf("%q: a reserved name is stored as a plain entry (N7)", tt.name)
		}
		if s.Long != (s.Kind == Encrypted && len(tt.name) > 172) {
			t.Errorf("%q: long %v", tt.name, s.Long)
		}
	}
}

// viewOf returns the name that a stored name has in the view.
func viewOf(t testing.TB, c *Codec, stored string, root bool, side []byte) string {
	t.Helper()
	name, s := c.Decode(stored, root)
	if s.Name != stored {
		t.Errorf("%q decodes to stored name %q", stored, s.Name)
	}
	if !s.Long {
		return name
	}
	name, err := c.OpenSide(s, side)
	if err != nil {
		t.Errorf("side entry of %q: %v", stored, err)
	}
	return name
}

// TestAllLengths checks that every length fits (N3, N4) and reads back.
func TestAllLengths(t *testing.T) {
	t.Parallel()
	c, _ := newCodec(t, false)
	seen := map[string]bool{}
	for n := 1; n <= MaxView; n++ {
		name := strings.Repeat("ä", n)[:n]
		s := c.Encrypt(name)
		side := c.SideContent(name)
		if len(s.Name) > MaxStored || s.Long && len(s.Side()) > MaxStored || len(side) > MaxSide || seen[s.Name] {
			t.Errorf("%d bytes: stored name of %d bytes, side entry of %d", n, len(s.Name), len(side))
		}
		seen[s.Name] = true
		if got := viewOf(t, c, s.Name, false, side); got != name {
			t.Errorf("%d bytes: reads as %q", n, got)
		}
	}
}

// TestCandidates checks the order of N8, and that damaged entries can be reached under the names they show (N9).
func TestCandidates(t *testing.T) {
	t.Parallel()
	c, _ := newCodec(t, false)
	long, reserved := strings.Repeat("l", 200), "mc1=reserved"
	damagedLong := c.Encrypt(long).Name
	for _, tt := range []struct {
		name string
		root bool
		want []Stored
	}{
		{"a", false, []Stored{c.Encrypt("a"), {Name: "mc1~a", Kind: PlainNamed}, {Name: "a", Kind: Plain}}},
		{long, false, []Stored{c.Encrypt(long), {Name: "mc1~" + long, Kind: PlainNamed}, {Name: long, Kind: Plain}}},
		{strings.Repeat("l", 252), false, []Stored{c.Encrypt(strings.Repeat("l", 252)), {Name: strings.Repeat("l", 252), Kind: Plain}}},
		{reserved, false, []Stored{c.Encrypt(reserved), {Name: "mc1~" + reserved, Kind: PlainNamed}, {Name: reserved, Kind: Damaged}}},
		{"mc2=x", false, []Stored{c.Encrypt("mc2=x"), {Name: "mc1~mc2=x", Kind: PlainNamed}, {Name: "mc2=x", Kind: Unsupported}}},
		{"mc1~x", false, []Stored{c.Encrypt("mc1~x"), {Name: "mc1~mc1~x", Kind: PlainNamed}}},
		{c.Encrypt("a").Name, false, []Stored{c.Encrypt(c.Encrypt("a").Name), {Name: "mc1~" + c.Encrypt("a").Name, Kind: PlainNamed}}},
		{damagedLong, false, []Stored{c.Encrypt(damagedLong), {Name: "mc1~" + damagedLong, Kind: PlainNamed}, {Name: damagedLong, Kind: Damaged, Long: true}}},
		{damagedLong + ".n", false, []Stored{c.Encrypt(damagedLong + ".n"), {Name: "mc1~" + damagedLong + ".n", Kind: PlainNamed}}},
		{Temporary()[:4] + "x", false, []Stored{c.Encrypt("mc1!x"), {Name: "mc1~mc1!x", Kind: PlainNamed}}},
		{".mailcryptfs", true, []Stored{c.Encrypt(".mailcryptfs"), {Name: "mc1~.mailcryptfs", Kind: PlainNamed}}},
		{".mailcryptfs", false, []Stored{c.Encrypt(".mailcryptfs"), {Name: "mc1~.mailcryptfs", Kind: PlainNamed}, {Name: ".mailcryptfs", Kind: Plain}}},
	} {
		var got []Stored
		c.Candidates(tt.name, tt.root, func(s Stored) bool {
			got = append(got, s)
			return false
		})
		if !slices.Equal(got, tt.want) {
			t.Errorf("%q, root %v: %+v, want %+v", tt.name, tt.root, got, tt.want)
		}
		for stop := 1; stop <= len(tt.want); stop++ {
			n := 0
			c.Candidates(tt.name, tt.root, func(Stored) bool {
				n++
				return n == stop
			})
			if n != stop {
				t.Errorf("%q: %d candidates tried after the first that is there at %d", tt.name, n, stop)
			}
		}
	}
}

func TestTemporary(t *testing.T) { // N12
	t.Parallel()
	c, _ := newCodec(t, false)
	seen := map[string]bool{}
	for range 100 {
		name := Temporary()
		if _, s := c.Decode(name, false); !IsTemporary(name) || s.Kind != Hidden || len(name) != 26 || seen[name] {
			t.Errorf("temporary name %q: kind %d", name, s.Kind)
		}
		seen[name] = true
	}
	for _, name := range []string{"mc1=x", "mc2!x", "mc1", "x"} {
		if IsTemporary(name) {
			t.Errorf("%q is a temporary name", name)
		}
	}
}

// TestPlainTargets checks that targets of entries that are not encrypted stay as they are (N10).
func TestPlainTargets(t *testing.T) {
	t.Parallel()
	c, _ := newCodec(t, true)
	for _, s := range []Stored{{Name: "a", Kind: Plain}, {Name: "mc1~a", Kind: PlainNamed}} {
		if got := c.Target(s, "../x"); got != "../x" {
			t.Errorf("kind %d: target is stored as %q", s.Kind, got)
		}
		if got, err := c.OpenTarget(s, "mc1=x"); got != "mc1=x" || err != nil {
			t.Errorf("kind %d: %q, %v", s.Kind, got, err)
		}
		if TargetSize(s.Kind, 100) != 100 {
			t.Errorf("kind %d: wrong size", s.Kind)
		}
	}
	for _, n := range []int64{0, 3, 4, 25} {
		if got := TargetSize(Encrypted, n); got < 0 {
			t.Errorf("stored target of %d bytes: size %d", n, got)
		}
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()
	for k, want := range map[Kind][2]bool{Plain: {}, Encrypted: {true, false}, PlainNamed: {true, false}, Damaged: {false, true}, Unsupported: {false, true}, Hidden: {}} {
		if got := [2]bool{k.Sealed(), k.Broken()}; got != want {
			t.Errorf("kind %d: %v, want %v", k, got, want)
		}
	}
}

// TestOtherSite checks that nothing opens under another site's keys.
func TestOtherSite(t *testing.T) {
	t.Parallel()
	c, _ := newCodec(t, false)
	other := otherCodec(t)
	name, long := "1700000000.M1P2.mail", strings.Repeat("l", 200)
	if _, s := other.Decode(c.Encrypt(name).Name, false); s.Kind != Damaged {
		t.Errorf("kind %d", s.Kind)
	}
	s := c.Encrypt(long)
	if _, err := other.OpenSide(s, c.SideContent(long)); !errors.Is(err, seal.ErrName) {
		t.Errorf("side entry: %v", err)
	}
	if _, err := other.OpenXAttr(c.SealXAttr("a")); !errors.Is(err, seal.ErrName) {
		t.Errorf("attribute: %v", err)
	}
	if _, err := other.OpenTarget(s, c.Target(s, "a")); !errors.Is(err, seal.ErrName) {
		t.Errorf("target: %v", err)
	}
}
