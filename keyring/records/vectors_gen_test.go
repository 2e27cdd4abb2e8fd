package records

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

//go:generate go test -run ^TestGenerated$ -update .

var update = flag.Bool("update", false, "write the test vectors anew, and the example of FORMAT.md")

const vectorDir = "testdata/vectors"

// vector is one record, where it lies, and what becomes of it. A file has "name: value" lines, an empty line, and then
// the record to its last byte.
type vector struct {
	name    string
	comment string
	kind    string // user, delivery, store
	dir     account.User
	id      string // of the file of a delivery key
	expect  string // ok, unsupported, mac, corrupt
	extra   []string
	record  []byte
}

func (v vector) encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "comment: %s\nsite-secret: 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\nkind: %s\n", v.comment, v.kind)
	if v.dir != "" {
		fmt.Fprintf(&b, "directory: %s\n", v.dir.Escape())
	}
	if v.id != "" {
		fmt.Fprintf(&b, "file: %s.toml\n", v.id)
	}
	for _, line := range v.extra {
		b.WriteString(line + "\n")
	}
	fmt.Fprintf(&b, "expect: %s\n\n", v.expect)
	b.Write(v.record)
	return b.Bytes()
}

// cheap are the parameters of the vectors: a reader need not spend much on them.
var cheap = slot.Params{MemoryKiB: slot.MinMemoryKiB, Time: slot.MinTime, Threads: slot.MinThreads}

var begin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// sample is a user with one password slot and one content key.
type sample struct {
	rec      *User
	identity *slot.Identity
	keys     map[secret.ID][]byte
	seed     *secret.Key
}

func newSample(tb testing.TB, keys *site.Keys, u account.User, labelled string) *sample {
	tb.Helper()
	s := &sample{rec: &User{User: u, Serial: 1, Created: begin}, keys: make(map[secret.ID][]byte)}
	copy(s.rec.Salt[:], fill(0x90, UserSaltSize))
	var err error
	s.identity, err = slot.NewIdentity()
	must(tb, err)
	tb.Cleanup(s.identity.Wipe)
	copy(s.rec.Public[:], s.identity.Public().Bytes())
	argonSalt, err := keys.ArgonSalt(s.rec.Salt[:])
	must(tb, err)
	hash, err := slot.Hash([]byte(password), slot.Salt(argonSalt), cheap)
	must(tb, err)
	defer hash.Wipe()
	sl := Slot{ID: slot.RandomID(), Kind: slot.KindPassword, Label: labelled, Created: begin, CreatedBy: "root", Params: cheap}
	s.seed, err = slot.PasswordSeed(hash, sl.ID)
	must(tb, err)
	tb.Cleanup(s.seed.Wipe)
	to, err := slot.PublicOf(s.seed)
	must(tb, err)
	sl.Public = to.Bytes()
	sl.Wrapped, err = slot.Wrap(s.identity, to, slot.Place{User: u, Kind: sl.Kind, Slot: sl.ID})
	must(tb, err)
	s.rec.Slots = []Slot{sl}
	s.addKey(tb, Current)
	return s
}

func (s *sample) addKey(tb testing.TB, state State) secret.ID {
	tb.Helper()
	id, sealed := s.newKey(tb)
	s.rec.ContentKeys = append(s.rec.ContentKeys, ContentKey{ID: id, Created: begin, State: state, Sealed: sealed})
	return id
}

func (s *sample) newKey(tb testing.TB) (secret.ID, []byte) {
	tb.Helper()
	key, err := secret.RandomKey()
	must(tb, err)
	defer key.Wipe()
	id := secret.RandomID()
	sealed, err := s.identity.Public().Seal(s.rec.User, secret.ContentKey{ID: id, Key: key})
	must(tb, err)
	must(tb, key.Use(func(b []byte) error { s.keys[id] = bytes.Clone(b); return nil }))
	return id, sealed
}

// secrets are header lines by which a reader can check its own cryptography.
func (s *sample) secrets(tb testing.TB, ids ...secret.ID) []string {
	tb.Helper()
	var seed []byte
	must(tb, s.identity.Use(func(b []byte) error { seed = bytes.Clone(b); return nil }))
	lines := []string{"password: " + password, fmt.Sprintf("identity: %x", seed)}
	for _, id := range ids {
		lines = append(lines, fmt.Sprintf("content-key: %s %x", id, s.keys[id]))
	}
	return lines
}

// maker collects vectors.
type maker struct {
	tb   testing.TB
	mac  *secret.Key
	list []vector
}

func (m *maker) add(v vector) {
	m.tb.Helper()
	for _, old := range m.list {
		if old.name == v.name {
			m.tb.Fatalf("two vectors are called %s", v.name)
		}
	}
	m.list = append(m.list, v)
}

// resealed replaces the MAC by the right one for what follows it.
func (m *maker) resealed(record string) []byte {
	m.tb.Helper()
	_, body, _ := strings.Cut(record, "\n")
	h := headerLines.FindStringSubmatch(record)
	if h == nil {
		m.tb.Fatalf("no header in %.80q", record)
	}
	b, err := seal([]byte(body), h[2], 1<<30, m.mac)
	must(m.tb, err)
	return b
}

// change replaces one text in v's record, which must occur.
func (m *maker) change(v vector, old, new string) string {
	m.tb.Helper()
	if !bytes.Contains(v.record, []byte(old)) {
		m.tb.Fatalf("%s: %q does not occur", v.name, old)
	}
	return strings.Replace(string(v.record), old, new, 1)
}

// makeVectors returns all vectors; with a fixed seed of the generator they are always the same.
func makeVectors(t *testing.T) []vector {
	t.Helper()
	cryptotest.SetGlobalRandom(t, 20260102)
	keys := siteKeys(t)
	m := &maker{tb: t, mac: keys.RecordMAC}
	good := m.goodUsers(keys)
	delivery := m.goodOthers(keys)
	m.headers(good, delivery)
	m.userValues(good)
	m.userLists(good)
	m.deliveries(delivery)
	m.notes()
	return m.list
}

// otherSecret seals a record with the MAC key of another site.
func (m *maker) otherSecret(v vector) []byte {
	m.tb.Helper()
	other, err := site.Derive(fill(1, 32))
	must(m.tb, err)
	defer other.Wipe()
	_, body, _ := bytes.Cut(v.record, []byte("\n"))
	b, err := seal(body, headerLines.FindStringSubmatch(string(v.record))[2], 1<<30, other.RecordMAC)
	must(m.tb, err)
	return b
}

// TestGenerated writes the vectors with -update, and otherwise makes sure that the folder has what it would write.
func TestGenerated(t *testing.T) {
	list := makeVectors(t)
	if len(list) < 30 {
		t.Fatalf("only %d vectors", len(list))
	}
	if *update {
		must(t, os.RemoveAll(vectorDir))
		must(t, os.MkdirAll(vectorDir, 0o755))
	}
	for _, v := range list {
		path := filepath.Join(vectorDir, v.name)
		if *update {
			must(t, os.WriteFile(path, v.encode(), 0o644))
		}
		// The bytes of sealed keys depend on how the library draws its randomness; all before them does not.
		got, err := os.ReadFile(path)
		want := v.encode()
		n := bytes.Index(want, []byte("password: "))
		if n < 0 {
			n = bytes.Index(want, []byte("\n\n"))
		}
		if err != nil || !bytes.HasPrefix(got, want[:n]) {
			t.Errorf("%s is not what the generator makes; run go generate: %v", path, err)
		}
	}
	if entries, err := os.ReadDir(vectorDir); err != nil || len(entries) != len(list) {
		t.Errorf("%d vectors in the folder, the generator makes %d: %v", len(entries), len(list), err)
	}
	checkSeeds(t)
	checkExample(t)
}

// seedOf is K5 and K6 for a vector's password, with the site's salt.
func seedOf(tb testing.TB, keys *site.Keys, rec *User, sl *Slot) []byte {
	tb.Helper()
	salt, err := keys.ArgonSalt(rec.Salt[:])
	must(tb, err)
	hash, err := slot.Hash([]byte(password), slot.Salt(salt), sl.Params)
	must(tb, err)
	defer hash.Wipe()
	var h []byte
	must(tb, hash.Use(func(b []byte) error { h = bytes.Clone(b); return nil }))
	seed, err := hkdf.Expand(sha256.New, h, "mailcryptfs slot v1\x00"+string(sl.ID[:]), 32)
	must(tb, err)
	return seed
}
