package compat

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	contentVectors = "../../fs/internal/content/testdata/vectors"
	nameVectors    = "../../fs/internal/names/testdata/vectors.json"
)

// job is what the reader is asked; []byte becomes base64.
type job struct {
	Do     string            `json:"do"`
	Keys   map[string]string `json:"keys,omitempty"` // content keys by id, hex
	Secret string            `json:"secret,omitempty"`
	Stored []byte            `json:"stored"`
	Side   []byte            `json:"side,omitempty"`
	Value  []byte            `json:"value"`
	Name   []byte            `json:"name,omitempty"`
	Kind   string            `json:"kind,omitempty"` // of a key record
	Root   bool              `json:"root,omitempty"`
}

// answer is what it makes of a job.
type answer struct {
	Result string `json:"result"` // as in the vectors
	Size   int    `json:"size"`
	Bad    []int  `json:"bad"`
	SHA256 string `json:"sha256"`
	Name   []byte `json:"name"`
	Value  []byte `json:"value"`
	Stored []byte `json:"stored"`
	Side   []byte `json:"side"`
	Why    string `json:"why"`
}

// python runs the reader with Debian's Python, for which install.sh gets the library.
func python(t *testing.T, stdin []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", append([]string{"-B", "reader.py"}, args...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("reader.py: %v\n%s\nrun install.sh if a module is missing", err, exit.Stderr)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func ask(t *testing.T, jobs []job) []answer {
	t.Helper()
	in, err := json.Marshal(jobs)
	if err != nil {
		t.Fatal(err)
	}
	var answers []answer
	if err := json.Unmarshal(python(t, in, "batch"), &answers); err != nil {
		t.Fatal(err)
	}
	if len(answers) != len(jobs) {
		t.Fatalf("%d answers to %d questions", len(answers), len(jobs))
	}
	return answers
}

// readVector returns the header fields and the stored bytes of a content vector.
func readVector(t *testing.T, path string) (map[string]string, []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, stored, found := bytes.Cut(b, []byte("\n\n"))
	if !found {
		t.Fatalf("%s has no empty line", path)
	}
	fields := map[string]string{}
	for line := range strings.SplitSeq(string(head), "\n") {
		k, v, _ := strings.Cut(line, ": ")
		fields[k] = v
	}
	return fields, stored
}

func TestContentVectors(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob(contentVectors + "/*")
	if err != nil || len(paths) < 100 {
		t.Fatalf("%d vectors, %v", len(paths), err)
	}
	var jobs []job
	var want []map[string]string
	for _, p := range paths {
		fields, stored := readVector(t, p)
		jobs = append(jobs, job{Do: "content", Keys: map[string]string{fields["key-id"]: fields["key"]}, Stored: stored})
		want = append(want, fields)
	}
	for i, a := range ask(t, jobs) {
		w := want[i]
		name := filepath.Base(paths[i])
		if a.Result != w["expect"] {
			t.Errorf("%s: %s %s, want %s (%s, %s)", name, a.Result, a.Why, w["expect"], w["rule"], w["comment"])
			continue
		}
		if a.Result != "ok" && a.Result != "corrupt" {
			continue
		}
		bad := make([]string, len(a.Bad))
		for i, no := range a.Bad {
			bad[i] = strconv.Itoa(no)
		}
		if strconv.Itoa(a.Size) != w["size"] || strings.Join(bad, " ") != w["bad-blocks"] || a.SHA256 != w["sha256"] {
			t.Errorf("%s: size %d, bad blocks %v, want %s, [%s] (%s, %s)", name, a.Size, a.Bad, w["size"], w["bad-blocks"], w["rule"], w["comment"])
		}
	}
}

// nameVector is one vector of names, links or attributes.
type nameVector struct {
	Comment, Rule, Do, Result        string
	Stored, Side, Value, Name, Plain []byte
	Root                             bool
}

func TestNameVectors(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(nameVectors)
	if err != nil {
		t.Fatal(err)
	}
	var set struct {
		Secret  string
		Vectors []nameVector
	}
	if err := json.Unmarshal(b, &set); err != nil || len(set.Vectors) < 50 {
		t.Fatalf("%d vectors, %v", len(set.Vectors), err)
	}
	var jobs []job
	for _, v := range set.Vectors {
		jobs = append(jobs, job{Do: v.Do, Secret: set.Secret, Stored: v.Stored, Side: v.Side, Value: v.Value, Root: v.Root})
	}
	for i, a := range ask(t, jobs) {
		v := set.Vectors[i]
		if a.Result != v.Result || !bytes.Equal(a.Name, v.Name) || !bytes.Equal(a.Value, v.Plain) {
			t.Errorf("%s, %s: %s %q %s, want %s %q (%s)", v.Do, v.Comment, a.Result, a.Name, a.Why, v.Result, v.Name, v.Rule)
		}
	}
	sealAgain(t, set.Secret, set.Vectors)
}

// sealAgain checks that the second program gives the names that read well the same stored names.
func sealAgain(t *testing.T, secret string, all []nameVector) {
	t.Helper()
	all = slices.DeleteFunc(slices.Clone(all), func(v nameVector) bool { return v.Result != "encrypted" && v.Result != "long" })
	var jobs []job
	for _, v := range all {
		jobs = append(jobs, job{Do: "seal", Secret: secret, Name: v.Name})
	}
	for i, a := range ask(t, jobs) {
		if !bytes.Equal(a.Stored, all[i].Stored) || !bytes.Equal(a.Side, all[i].Side) {
			t.Errorf("%q is sealed as %q, want %q", all[i].Name, a.Stored, all[i].Stored)
		}
	}
}

// TestExamples opens the examples of FORMAT.md from the page itself.
func TestExamples(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../fs/FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	_, text, _ := strings.Cut(page, "Example, a write-once file \"hello\\n\"")
	_, text, _ = strings.Cut(text, "```\n")
	text, _, _ = strings.Cut(text, "```")
	var stored []byte
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		piece, err := hex.DecodeString(f[1])
		if err != nil || strconv.Itoa(len(stored)) != f[0] {
			t.Fatalf("line %q at %d: %v", line, len(stored), err)
		}
		stored = append(stored, piece...)
	}
	const id, key = "404142434445464748494a4b4c4d4e4f", "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
	a := ask(t, []job{{Do: "content", Keys: map[string]string{id: key}, Stored: stored}})[0]
	if sum := sha256.Sum256([]byte("hello\n")); a.Result != "ok" || a.SHA256 != hex.EncodeToString(sum[:]) {
		t.Errorf("the example of content: %+v", a)
	}

	_, text, _ = strings.Cut(page, "Example, with the site secret `000102…1f`:\n\n```\n")
	text, _, _ = strings.Cut(text, "```")
	if !strings.Contains(text, "stored name") {
		t.Fatal("no example of names")
	}
	const secret = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	names := []string{"1700000000.M1P2.mail:2,S", strings.Repeat("long.", 40)}
	for i, a := range ask(t, []job{{Do: "seal", Secret: secret, Name: []byte(names[0])}, {Do: "seal", Secret: secret, Name: []byte(names[1])}}) {
		if !strings.Contains(text, " "+string(a.Stored)+"\n") {
			t.Errorf("the example does not store %q as %q", names[i], a.Stored)
		}
		if side := hex.EncodeToString(a.Side); !strings.Contains(strings.Join(strings.Fields(text), ""), side) {
			t.Errorf("the example does not have the side entry %s", side)
		}
	}
}

// TestCommandLine checks the verbs for people: a file under a content key, and a directory under the site secret.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fields, stored := readVector(t, contentVectors+"/size-wo-5000")
	plain := python(t, nil, "cat", write("mail", stored), "--key", write("key", []byte(fields["key"]+"\n")))
	if len(plain) != 5000 {
		t.Errorf("cat: %d bytes", len(plain))
	}

	var set struct {
		Secret  string
		Vectors []nameVector
	}
	b, err := os.ReadFile(nameVectors)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &set); err != nil {
		t.Fatal(err)
	}
	secret := write("secret", []byte("mailcryptfs-site-secret-1:"+set.Secret+"\n"))
	want := map[string]string{}
	for _, v := range set.Vectors {
		if v.Do != "name" || v.Result != "encrypted" && v.Result != "long" || bytes.ContainsAny(v.Name, "\n\t") {
			continue
		}
		write("store/"+string(v.Stored), nil)
		if v.Result == "long" {
			write("store/"+string(v.Stored)+".n", v.Side)
		}
		want[string(v.Stored)] = string(v.Name)
	}
	lines := strings.Split(strings.TrimSuffix(string(python(t, nil, "ls", filepath.Join(dir, "store"), "--site-secret", secret)), "\n"), "\n")
	if len(lines) != len(want) {
		t.Errorf("ls: %d lines, want %d", len(lines), len(want))
	}
	for _, line := range lines {
		f := strings.Split(line, "\t")
		if len(f) != 3 || want[f[1]] != f[2] {
			t.Errorf("ls: %q", line)
		}
	}
}

// TestKeysOnlyInFiles checks that the program takes no secret from its arguments or its environment.
func TestKeysOnlyInFiles(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("reader.py")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte("environ")) {
		t.Error("reader.py looks at its environment")
	}
	key := strings.Repeat("00", 32)
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "-B", "reader.py", "cat", "reader.py", "--key", key)
	if err := cmd.Run(); err == nil {
		t.Error("reader.py takes a key as an argument")
	}
}
