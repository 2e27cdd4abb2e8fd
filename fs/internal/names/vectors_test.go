package names

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the test vectors anew")

const vectorFile = "testdata/vectors.json"

// vector is one stored name, symbolic link's target or extended attribute, and what a reader makes of it. Byte strings
// are base64 in the file.
type vector struct {
	Comment string `json:"comment"`
	Rule    string `json:"rule"`
	Do      string `json:"do"`     // name, target, xattr
	Result  string `json:"result"` // of a name its kind; else ok or refused
	Stored  []byte `json:"stored"`
	Side    []byte `json:"side,omitempty"`  // content of the side entry
	Value   []byte `json:"value,omitempty"` // of an attribute, as stored
	Root    bool   `json:"root,omitempty"`  // in the root of the store
	Name    []byte `json:"name,omitempty"`  // of the view
	Plain   []byte `json:"plain,omitempty"` // value of an attribute in the view
}

type vectorSet struct {
	Secret  string   `json:"secret"` // site secret, hex
	Vectors []vector `json:"vectors"`
}

func encodeSet(t *testing.T, v []vector) []byte {
	t.Helper()
	b, err := json.MarshalIndent(vectorSet{secretHex, v}, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}

// TestVectorFile compares the committed vectors with what the generator makes.
func TestVectorFile(t *testing.T) {
	want := encodeSet(t, generate())
	if *update {
		if err := os.WriteFile(vectorFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(vectorFile)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s differs from what the generator makes: %v", vectorFile, err)
	}
}

func vectors(t testing.TB) []vector {
	t.Helper()
	b, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	var s vectorSet
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	if len(s.Vectors) < 50 {
		t.Fatalf("only %d vectors", len(s.Vectors))
	}
	return s.Vectors
}

var kindNames = map[Kind]string{Plain: "plain", Encrypted: "encrypted", PlainNamed: "plain-named", Damaged: "damaged", Unsupported: "unsupported", Hidden: "hidden"}

// TestVectors reads every vector and, where it reads well, writes it again.
func TestVectors(t *testing.T) {
	t.Parallel()
	for _, plain := range []bool{false, true} {
		c, x := newCodec(t, plain)
		for _, v := range vectors(t) {
			var result, name, value string
			switch v.Do {
			case "name":
				result, name = readName(c, v)
			case "target":
				result, name = outcome(c.OpenTarget(Stored{Name: "mc1=x", Kind: Encrypted}, string(v.Stored)))
				if result == "ok" {
					if got := c.Target(Stored{Kind: Encrypted}, name); got != string(v.Stored) {
						t.Errorf("%s: target is stored as %q", v.Comment, got)
					}
					if got := TargetSize(Encrypted, int64(len(v.Stored))); got != int64(len(name)) {
						t.Errorf("%s: size %d, want %d", v.Comment, got, len(name))
					}
				}
			case "xattr":
				result, name = outcome(c.OpenXAttr(strings.TrimPrefix(string(v.Stored), "user.mc1.")))
				if result == "ok" {
					b, err := x.Open(name, v.Value)
					if result, value = outcome(string(b), err); result != "ok" {
						name = ""
					}
				}
			}
			if result != v.Result || name != string(v.Name) || value != string(v.Plain) {
				t.Errorf("%s %s, %q: %s %q %q, want %s %q %q (%s)", v.Do, v.Comment, v.Stored, result, name, value, v.Result, v.Name, v.Plain, v.Rule)
			}
		}
	}
}

func outcome(s string, err error) (string, string) {
	if err != nil {
		return "refused", ""
	}
	return "ok", s
}

// readName does what a lister of directories does: a long name is in its side entry (N4), and if that does not open,
// the entry is damaged and shown under its stored name (N9).
func readName(c *Codec, v vector) (kind, name string) {
	name, s := c.Decode(string(v.Stored), v.Root)
	if !s.Long {
		return kindNames[s.Kind], name
	}
	name, err := c.OpenSide(s, v.Side)
	if err != nil {
		return "damaged", string(v.Stored)
	}
	if want := c.SideContent(name); !bytes.Equal(want, v.Side) {
		return "side entry is written otherwise", name
	}
	return "long", name
}
