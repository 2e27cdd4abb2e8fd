package content

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

var update = flag.Bool("update", false, "write the test vectors anew")

const vectorDir = "testdata/vectors"

// The kinds of outcome of a vector. Of a file that is refused nothing is readable; of a corrupt one, all blocks but bad.
const (
	ok          = "ok"
	corrupt     = "corrupt"     // some blocks do not open
	refused     = "refused"     // corrupt as a whole
	unsupported = "unsupported" // another version
	unknownKey  = "unknown key"
)

// vector is one stored file and what a reader makes of it.
type vector struct {
	name   string
	rule   string // of FORMAT.md, that decides
	what   string
	expect string
	keyID  []byte
	key    []byte
	size   int    // plaintext size in bytes; 0 for refused, unsupported
	bad    []int  // blocks that do not open
	sum    string // SHA-256 of the payload of all blocks that open, in order
	stored []byte
}

// readable returns how many plaintext bytes can be read from the beginning on.
func (v *vector) readable() int {
	switch {
	case v.expect == ok:
		return v.size
	case len(v.bad) > 0:
		return start(v.bad[0])
	}
	return 0
}

// encode is a header of "key: value" lines, an empty line, and the stored bytes.
func (v *vector) encode() []byte {
	var b bytes.Buffer
	line := func(k, s string) { fmt.Fprintf(&b, "%s: %s\n", k, s) }
	line("expect", v.expect)
	line("rule", v.rule)
	line("comment", v.what)
	line("key-id", hex.EncodeToString(v.keyID))
	line("key", hex.EncodeToString(v.key))
	if v.expect == ok || v.expect == corrupt {
		line("size", strconv.Itoa(v.size))
		line("readable", strconv.Itoa(v.readable()))
		line("bad-blocks", strings.Trim(fmt.Sprint(v.bad), "[]"))
		line("sha256", v.sum)
	}
	line("stored-size", strconv.Itoa(len(v.stored)))
	b.WriteByte('\n')
	b.Write(v.stored)
	return b.Bytes()
}

func decodeVector(name string, b []byte) (*vector, error) {
	head, stored, found := bytes.Cut(b, []byte("\n\n"))
	if !found {
		return nil, errors.New("no empty line")
	}
	fields := map[string]string{}
	for line := range strings.SplitSeq(string(head), "\n") {
		k, s, _ := strings.Cut(line, ": ")
		fields[k] = s
	}
	v := &vector{name: name, rule: fields["rule"], what: fields["comment"], expect: fields["expect"], sum: fields["sha256"], stored: stored}
	var err1, err2 error
	v.keyID, err1 = hex.DecodeString(fields["key-id"])
	v.key, err2 = hex.DecodeString(fields["key"])
	v.size, _ = strconv.Atoi(fields["size"])
	for no := range strings.FieldsSeq(fields["bad-blocks"]) {
		n, err := strconv.Atoi(no)
		if err != nil {
			return nil, err
		}
		v.bad = append(v.bad, n)
	}
	if fields["stored-size"] != strconv.Itoa(len(stored)) {
		return nil, fmt.Errorf("%d stored bytes, header says %s", len(stored), fields["stored-size"])
	}
	return v, errors.Join(err1, err2)
}

// TestVectorFiles compares the committed vectors with what the generator makes.
func TestVectorFiles(t *testing.T) {
	all := generate()
	if *update {
		if err := os.RemoveAll(vectorDir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(vectorDir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]bool{}
	for _, v := range all {
		path := filepath.Join(vectorDir, v.name)
		if want[v.name] {
			t.Errorf("two vectors are called %s", v.name)
		}
		want[v.name] = true
		if *update {
			if err := os.WriteFile(path, v.encode(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		} else if !bytes.Equal(b, v.encode()) {
			t.Errorf("%s differs from what the generator makes", path)
		}
	}
	entries, err := os.ReadDir(vectorDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !want[e.Name()] {
			t.Errorf("the generator does not make %s", e.Name())
		}
	}
}

// vectors returns the committed vectors.
func vectors(t testing.TB) []*vector {
	t.Helper()
	paths, err := filepath.Glob(vectorDir + "/*")
	if err != nil || len(paths) < 100 {
		t.Fatalf("%d vectors, %v", len(paths), err)
	}
	var out []*vector
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		v, err := decodeVector(filepath.Base(p), b)
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		out = append(out, v)
	}
	return out
}

func (v *vector) keys(t testing.TB) *testKeys {
	return &testKeys{layout: format.Padded, current: secret.ID(v.keyID), known: map[secret.ID]*secret.Key{secret.ID(v.keyID): newKey(t, v.key)}}
}

// kind is the sentinel that an error of this outcome wraps.
func (v *vector) kind() error {
	switch v.expect {
	case unsupported:
		return format.ErrUnsupported
	case unknownKey:
		return secret.ErrUnknownKey
	}
	return format.ErrCorrupt
}

func TestVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			checkProbe(t, v)
			low := &memLower{b: slices.Clone(v.stored)}
			f, err := Open(low, low.size(), v.keys(t))
			if v.expect != ok && v.expect != corrupt {
				if !errors.Is(err, v.kind()) {
					t.Fatalf("Open: %v, want %v", err, v.kind())
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if f.Size() != int64(v.size) {
				t.Fatalf("size %d, want %d", f.Size(), v.size)
			}
			checkPrefix(t, v, f)
			checkBlocks(t, v, f)
			checkSteps(t, v, f)
			if !bytes.Equal(low.b, v.stored) {
				t.Error("reading has changed the stored file")
			}
		})
	}
}

func checkProbe(t *testing.T, v *vector) {
	t.Helper()
	s, err := Probe(bytes.NewReader(v.stored), int64(len(v.stored)))
	switch v.expect {
	case unknownKey:
		if err != nil {
			t.Errorf("Probe: %v", err)
		}
	case refused, unsupported:
		if !errors.Is(err, v.kind()) || errors.Is(err, format.ErrCorrupt) && errors.Is(err, format.ErrUnsupported) {
			t.Errorf("Probe: %v, want %v", err, v.kind())
		}
	default:
		if err != nil || s.Plain != int64(v.size) {
			t.Errorf("Probe: size %d, %v; want %d", s.Plain, err, v.size)
		}
		if n := int64(len(v.stored)); err == nil && !format.Aligned(n) {
			if plain, err := format.PlainSizeFinal(n); err != nil || plain != s.Plain {
				t.Errorf("arithmetic says %d, %v; Probe %d", plain, err, s.Plain)
			}
		}
	}
}

// checkPrefix reads the file in one call.
func checkPrefix(t *testing.T, v *vector, f *File) {
	t.Helper()
	b := make([]byte, v.size+10)
	n, err := f.ReadAt(b, 0)
	if n != v.readable() {
		t.Errorf("%d bytes readable, want %d", n, v.readable())
	}
	if (err != nil) != (v.expect == corrupt) || err != nil && !errors.Is(err, format.ErrCorrupt) {
		t.Errorf("ReadAt: %v", err)
	}
	if err == nil && hexSum(b[:n]) != v.sum {
		t.Error("the plaintext is not the right one")
	}
}

// checkBlocks reads block by block: those that are bad give nothing, the others what they should.
func checkBlocks(t *testing.T, v *vector, f *File) {
	t.Helper()
	var good []byte
	for no := 0; start(no) < v.size; no++ {
		n := min(capacity(no), v.size-start(no))
		b := make([]byte, n)
		got, err := f.ReadAt(b, int64(start(no)))
		_, err1 := f.ReadAt(b[n-1:n:n], int64(start(no)+n-1))
		if slices.Contains(v.bad, no) {
			if got != 0 || !errors.Is(err, format.ErrCorrupt) || !errors.Is(err1, format.ErrCorrupt) {
				t.Errorf("block %d: %d bytes, %v; last byte: %v", no, got, err, err1)
			}
			continue
		}
		if got != n || err != nil || err1 != nil {
			t.Errorf("block %d: %d of %d bytes, %v; last byte: %v", no, got, n, err, err1)
		}
		good = append(good, b[:got]...)
	}
	if hexSum(good) != v.sum {
		t.Error("the blocks that open are not the right ones")
	}
}

// checkSteps reads what is readable in small and odd steps.
func checkSteps(t *testing.T, v *vector, f *File) {
	t.Helper()
	whole := make([]byte, v.readable())
	if _, err := f.ReadAt(whole, 0); err != nil {
		t.Fatal(err)
	}
	for _, step := range []int{13, 4010, 4066, 4096, 5000} {
		got := make([]byte, 0, len(whole))
		for len(got) < len(whole) {
			n := min(step, len(whole)-len(got))
			b := make([]byte, n)
			k, err := f.ReadAt(b, int64(len(got)))
			if k != n || err != nil {
				t.Fatalf("step %d at %d: %d bytes, %v", step, len(got), k, err)
			}
			got = append(got, b...)
		}
		if !bytes.Equal(got, whole) {
			t.Errorf("reading in steps of %d gives another plaintext", step)
		}
	}
}

// TestVectorsChange changes every file that reads well, in place and at its end, and reads it again after each step.
func TestVectorsChange(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		if v.expect != ok {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			low, keys := &memLower{b: slices.Clone(v.stored)}, v.keys(t)
			m := &model{t: t, low: low, keys: keys}
			m.reopen()
			m.want = readAll(t, m.f)
			m.write([]byte("changed"), int64(v.size/2))
			m.reopen()
			m.write(counting(1, 100), m.f.Size())
			m.reopen()
			m.write(bytes.Repeat([]byte("x"), 9000), m.f.Size()+10)
			m.reopen()
			m.truncate(int64(v.size)/3 + 1)
			m.reopen()
			m.truncate(0)
			m.write([]byte("new"), 0)
			m.reopen()
		})
	}
}
