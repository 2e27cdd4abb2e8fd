package records

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/code"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
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

const (
	alice    account.User = "alice@example.org"
	password string       = "correct horse battery staple"
)

// cheap are the parameters of the vectors: a reader need not spend much on them.
var cheap = slot.Params{MemoryKiB: slot.MinMemoryKiB, Time: slot.MinTime, Threads: slot.MinThreads}

var begin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// siteKeys are those of the site secret 000102…1f.
func siteKeys(tb testing.TB) *site.Keys {
	tb.Helper()
	s := make([]byte, 32)
	for i := range s {
		s[i] = byte(i)
	}
	keys, err := site.Derive(s)
	must(tb, err)
	tb.Cleanup(keys.Wipe)
	return keys
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

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

func fill(b byte, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = b + byte(i)
	}
	return out
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

func (m *maker) user(name, comment string, s *sample, extra ...string) vector {
	m.tb.Helper()
	b, err := s.rec.Encode(m.mac)
	must(m.tb, err)
	v := vector{name: name, comment: comment, kind: "user", dir: s.rec.User, expect: "ok", extra: extra, record: b}
	m.add(v)
	return v
}

func (m *maker) goodUsers(keys *site.Keys) vector {
	m.tb.Helper()
	s := newSample(m.tb, keys, alice, "login password")
	good := m.user("user-good", "one slot, one content key", s, s.secrets(m.tb, s.rec.ContentKeys[0].ID)...)

	s.rec.ContentKeys[0].State = Old
	s.addKey(m.tb, Current)
	s.rec.Serial = 2
	m.user("user-rotated", "an old and a current content key", s, s.secrets(m.tb, s.rec.ContentKeys[0].ID, s.rec.ContentKeys[1].ID)...)

	m.rotating(keys)

	s.rec.Slots, s.rec.Serial = nil, 3
	m.user("user-no-slots", "every slot was revoked", s)

	unknown := "\n[[slot]]\nid = \"aaaaaaaaaaaaaaaa\"\nkind = \"retina\"\nlabel = \"eye\"\ncreated = 2026-01-02T03:04:05Z\ncreated_by = \"root\"\n" +
		"wrapped = 7\nmore = [1, \"two\", {three = 3.5}]\nlocal = 2026-01-02\n[slot.inner]\nx = true\n"
	m.add(vector{name: "user-unknown-slot", comment: "a slot of a kind of the future is kept", kind: "user", dir: alice, expect: "ok",
		record: m.resealed(string(good.record) + unknown)})

	m.user("user-hex-name", "a user name that is not UTF-8", newSample(m.tb, keys, "caf\xe9", "login"))
	m.user("user-odd-name", "a user name with control characters, quotes and slashes", newSample(m.tb, keys, "a\t\"b\\c\x7f/ü", "\u0001\"\\\x7f"))
	m.user("user-long-name", "a user name whose directory is a hash", newSample(m.tb, keys, account.User(strings.Repeat("ü", 300)), ""))
	return good
}

// codeText and recoveryKey open slots of the vector user-rotating.
const (
	codeText    = "M2GTD-58X4Q-MPKA0-FA59S-NANT3-SBDE7-NYRB1-3CNKN"
	recoveryKey = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
)

// rotating has a slot of every kind, a replaced identity, and a rotation.
func (m *maker) rotating(keys *site.Keys) {
	m.tb.Helper()
	s := newSample(m.tb, keys, alice, "login password")
	old, err := slot.NewIdentity()
	must(m.tb, err)
	m.tb.Cleanup(old.Wipe)
	prev := PreviousIdentity{Replaced: begin.Add(time.Hour)}
	copy(prev.Public[:], old.Public().Bytes())
	prev.Sealed, err = s.identity.Public().SealPrevious(alice, old)
	must(m.tb, err)
	s.rec.Identities = []PreviousIdentity{prev}
	s.rec.Rotation = &Rotation{Started: begin.Add(time.Hour), By: "root", Identity: true}

	c, err := code.Parse([]byte(codeText))
	must(m.tb, err)
	m.tb.Cleanup(c.Wipe)
	coded := Slot{ID: slot.ID{0xc0}, Kind: slot.KindCode, Label: "sheet of paper", Created: begin, CreatedBy: "root"}
	at := slot.Place{User: alice, Kind: coded.Kind, Slot: coded.ID}
	seed, err := c.Seed(at)
	must(m.tb, err)
	m.tb.Cleanup(seed.Wipe)
	to, err := slot.PublicOf(seed)
	must(m.tb, err)
	coded.Public = to.Bytes()
	coded.Wrapped, err = slot.Wrap(s.identity, to, at)
	must(m.tb, err)

	ids, err := recovery.ReadIdentities(strings.NewReader(recoveryKey))
	must(m.tb, err)
	recipient, _ := recovery.RecipientOf(ids[0])
	recovering := Slot{ID: slot.ID{0xd0}, Kind: slot.KindRecovery, Label: "recovery key", Created: begin, CreatedBy: "root", Recipient: recipient.String()}
	recovering.Wrapped, err = recovery.Wrap(s.identity, recipient, slot.Place{User: alice, Kind: recovering.Kind, Slot: recovering.ID})
	must(m.tb, err)
	s.rec.Slots = append(s.rec.Slots, coded, recovering)
	v := m.user("user-rotating", "a slot of each kind, a replaced identity, a rotation", s, append([]string{"recovery-code: " + codeText, "recovery-key: " + recoveryKey},
		s.secrets(m.tb, s.rec.ContentKeys[0].ID)...)...)
	for _, c := range []struct{ name, comment, old, new string }{
		{"rotation-pending", "an identity is pending that nobody asked for", "identity = true\npending = false", "identity = false\npending = true"},
		{"rotation-fractions", "a rotation that began between two seconds", "started = 2026-01-02T04:04:05Z", "started = 2026-01-02T04:04:05.5Z"},
		{"rotation-text", "a truth value as a text", "pending = false", `pending = "false"`},
		{"rotation-unknown-key", "a key of the rotation that is not defined", "pending = false", "pending = false\nhost = \"x\""},
		{"rotation-list", "the rotation is a list", "[rotation]", "[[rotation]]"},
		{"recovery-public", "a recovery slot with a public half", "recipient =", "public = \"\"\nrecipient ="},
		{"recovery-recipient-long", "a recipient of 4,097 bytes", recipient.String(), strings.Repeat("a", maxRecipient+1)},
		{"recovery-wrapped-empty", "a recovery slot without content", "wrapped = \"" + base64.StdEncoding.EncodeToString(recovering.Wrapped), "wrapped = \""},
		{"recovery-wrapped-long", "a recovery slot of 8,193 bytes", base64.StdEncoding.EncodeToString(recovering.Wrapped),
			base64.StdEncoding.EncodeToString(make([]byte, maxSealedFile+1))},
		{"code-params", "a recovery code with Argon2id parameters", "\n[[slot]]\nid = \"d000", "time = 1\n\n[[slot]]\nid = \"d000"},
		{"identity-unknown-key", "a key of a replaced identity that is not defined", "replaced =", "host = 1\nreplaced ="},
		{"identity-sealed-short", "a replaced identity of 1,167 bytes", base64.StdEncoding.EncodeToString(prev.Sealed),
			base64.StdEncoding.EncodeToString(prev.Sealed[:1167])},
	} {
		m.add(vector{name: "user-" + c.name, comment: c.comment, kind: "user", dir: alice, expect: "corrupt", record: m.resealed(m.change(v, c.old, c.new))})
	}
}

func (m *maker) goodOthers(keys *site.Keys) vector {
	m.tb.Helper()
	s := newSample(m.tb, keys, alice, "")
	id, sealed := s.newKey(m.tb)
	b, err := (&Delivery{User: alice, ID: id, Created: begin, Sealed: sealed}).Encode(m.mac)
	must(m.tb, err)
	delivery := vector{name: "delivery-good", comment: "a delivery key", kind: "delivery", dir: alice, id: id.String(), expect: "ok",
		extra: s.secrets(m.tb, id)[1:], record: b}
	m.add(delivery)

	b, err = (&Store{ID: [16]byte(fill(0xd0, 16)), Created: begin}).Encode(m.mac)
	must(m.tb, err)
	store := vector{name: "store-good", comment: "a store record", kind: "store", expect: "ok", record: b}
	m.add(store)
	for _, c := range []struct{ name, comment, old, new, expect string }{
		{"store-version-2", "a store of a later version", "version = 1", "version = 2", "unsupported"},
		{"store-id-short", "the id has 15 bytes", "dedf\"", "de\"", "corrupt"},
		{"store-unknown-key", "a key that is not defined", "\nid", "\nowner = \"x\"\nid", "corrupt"},
		{"store-too-large", "more than 8 KiB", "\nid", "\n#" + strings.Repeat("x", maxStoreSize) + "\nid", "corrupt"},
	} {
		v := vector{name: c.name, comment: c.comment, kind: "store", expect: c.expect}
		v.record = m.resealed(m.change(store, c.old, c.new))
		m.add(v)
	}
	v := store
	v.name, v.comment, v.expect = "store-other-secret", "the MAC is that of another site secret", "mac"
	v.record = m.otherSecret(store)
	m.add(v)
	return delivery
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

// headers are failures of the first three lines.
func (m *maker) headers(good, delivery vector) {
	m.tb.Helper()
	text := string(good.record)
	add := func(name, comment, expect string, record []byte) {
		m.tb.Helper()
		m.add(vector{name: "user-" + name, comment: comment, kind: "user", dir: alice, expect: expect, record: record})
	}
	add("version-2", "a later version, with a right MAC", "unsupported", m.resealed(m.change(good, "version = 1", "version = 2")))
	add("version-2-mac", "a later version: its MAC is not judged", "unsupported", []byte(m.change(good, "version = 1", "version = 2")))
	add("version-2-rest", "a later version: its rest is not judged", "unsupported",
		m.resealed("mac = \""+strings.Repeat("0", 64)+"\"\nformat = \""+formatUser+"\"\nversion = 2\n<xml/>\n"))
	add("version-0", "no such version", "unsupported", m.resealed(m.change(good, "version = 1", "version = 0")))
	add("version-text", "the version is not a number", "corrupt", []byte(m.change(good, "version = 1", "version = \"1\"")))
	add("version-zero-first", "the version begins with a zero", "corrupt", []byte(m.change(good, "version = 1", "version = 01")))
	add("mac-flipped", "one bit of the MAC", "mac", flipped(text, len(`mac = "`)))
	add("body-flipped", "one bit of a sealed content key", "mac", flipped(text, len(text)-100))
	add("mac-other-secret", "the MAC is that of another site secret", "mac", m.otherSecret(good))
	add("comment-added", "a line was appended", "mac", []byte(text+"# nothing\n"))
	add("mac-upper-case", "the MAC is in upper-case hex", "corrupt", []byte(strings.ToUpper(text[:71])+text[71:]))
	add("mac-missing", "there is no MAC line", "corrupt", []byte(text[strings.Index(text, "\n")+1:]))
	add("mac-second", "the MAC is the second line", "corrupt", []byte("\n"+text))
	add("crlf", "lines end with CR LF", "corrupt", []byte(strings.ReplaceAll(text, "\n", "\r\n")))
	add("bom", "it begins with a byte order mark", "corrupt", []byte("\ufeff"+text))
	add("format-unknown", "a format that is not defined", "corrupt", m.resealed(m.change(good, formatUser, "mailcryptfs other")))
	add("format-swapped", "the MAC of one kind does not serve for another", "mac", []byte(m.change(good, formatUser, formatStore)))
	add("is-a-delivery-key", "a delivery key in place of a user record", "corrupt", delivery.record)
	for _, n := range []int{0, 1, 40, 71, 72, 80, 110, 111, 118} {
		add(fmt.Sprintf("cut-at-%d", n), "cut within the first three lines", "corrupt", []byte(text[:n]))
	}
	for _, n := range []int{126, 1000, len(text) - 1} {
		add(fmt.Sprintf("cut-at-%d", n), "cut after the first three lines", "mac", []byte(text[:n]))
	}
}

func flipped(s string, at int) []byte {
	b := []byte(s)
	b[at] ^= 1
	return b
}

// userValues are failures of single values, all under a right MAC.
func (m *maker) userValues(good vector) {
	m.tb.Helper()
	text := string(good.record)
	value := func(key string) string {
		m.tb.Helper()
		_, rest, ok := strings.Cut(text, "\n"+key+" = ")
		if !ok {
			m.tb.Fatalf("no key %q", key)
		}
		v, _, _ := strings.Cut(rest, "\n")
		return v
	}
	set := func(key, v string) (string, string) { return key + " = " + value(key), key + " = " + v }
	quoted := func(key string) string { return strings.Trim(value(key), `"`) }
	for _, c := range []struct{ name, comment, key, value string }{
		{"user-other", "the record of another user", "user", `"bob"`},
		{"user-empty", "the user name is empty", "user", `""`},
		{"user-dots", "the user name has a part ..", "user", `"a/../b"`},
		{"serial-zero", "the serial number is 0", "serial", "0"},
		{"serial-negative", "the serial number is negative", "serial", "-1"},
		{"serial-text", "the serial number is a text", "serial", `"1"`},
		{"serial-float", "the serial number is a float", "serial", `1.0`},
		{"created-local", "a time without a zone", "created", "2026-01-02T03:04:05"},
		{"created-offset", "a time that is not in UTC", "created", "2026-01-02T03:04:05+01:00"},
		{"created-text", "a time as a text", "created", `"2026-01-02T03:04:05Z"`},
		{"created-date", "a date alone", "created", "2026-01-02"},
		{"salt-upper-case", "the salt is in upper-case hex", "salt", strings.ToUpper(value("salt"))},
		{"salt-not-hex", "the salt is not hex", "salt", `"` + strings.Repeat("zz", 16) + `"`},
		{"salt-short", "the salt has 15 bytes", "salt", value("salt")[:31] + `"`},
		{"public-short", "the public half lacks a byte", "public", b64(decode64(m.tb, quoted("public"))[:1215])},
		{"public-unpadded", "base64 without padding", "public", strings.ReplaceAll(value("public"), "=", "")},
		{"public-line-break", "a line break in base64", "public", strings.Replace(value("public"), "A", `\n`, 1)},
		{"kind-long", "a kind of 65 bytes", "kind", `"` + strings.Repeat("k", 65) + `"`},
		{"label-long", "a label of 129 bytes", "label", `"` + strings.Repeat("l", 129) + `"`},
		{"created-by-long", "a creator of 129 bytes", "created_by", `"` + strings.Repeat("l", 129) + `"`},
		{"wrapped-short", "the wrapped identity has 1,167 bytes", "wrapped", b64(decode64(m.tb, quoted("wrapped"))[:1167])},
		{"wrapped-url", "base64url", "wrapped", `"` + strings.Repeat("-", 1560) + `"`},
		{"memory-low", "8191 KiB", "memory_kib", "8191"},
		{"memory-high", "1048577 KiB", "memory_kib", "1048577"},
		{"time-low", "no pass", "time", "0"},
		{"time-high", "17 passes", "time", "17"},
		{"threads-low", "no lane", "threads", "0"},
		{"threads-high", "9 lanes", "threads", "9"},
		{"threads-wrap", "257 lanes, 1 in eight bits", "threads", "257"},
		{"state-unknown", "a state that is not defined", "state", `"revoked"`},
		{"sealed-long", "the sealed key has 1,169 bytes", "sealed", b64(append(decode64(m.tb, quoted("sealed")), 0))},
		{"public-bits", "trailing bits in base64", "public", trailingBits(m.tb, value("public"))},
	} {
		old, new := set(c.key, c.value)
		m.add(vector{name: "user-" + c.name, comment: c.comment, kind: "user", dir: alice, expect: "corrupt",
			record: m.resealed(m.change(good, old, new))})
	}
}

func b64(b []byte) string { return `"` + base64.StdEncoding.EncodeToString(b) + `"` }

func decode64(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	must(tb, err)
	return b
}

// trailingBits sets a bit that no byte has, in the last character before the padding.
func trailingBits(tb testing.TB, quoted string) string {
	tb.Helper()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	i := strings.Index(quoted, "=") - 1
	if i < 0 {
		tb.Fatal("no padding")
	}
	return quoted[:i] + string(alphabet[strings.IndexByte(alphabet, quoted[i])|1]) + quoted[i+1:]
}

// userLists are failures of structure, all under a right MAC.
func (m *maker) userLists(good vector) {
	m.tb.Helper()
	text := string(good.record)
	slotAt, keyAt := strings.Index(text, "[[slot]]"), strings.Index(text, "[[content_key]]")
	head, slotText, keyText := text[:slotAt], text[slotAt:keyAt], text[keyAt:]
	otherID := func(s string, n int) string {
		at := strings.Index(s, "id = \"") + len("id = \"")
		return s[:at] + fmt.Sprintf("%04x", n) + s[at+4:]
	}
	oldKey := strings.Replace(otherID(keyText, 0xffff), `"current"`, `"old"`, 1)
	var manySlots strings.Builder
	for i := range MaxSlots + 1 {
		manySlots.WriteString(otherID(slotText, i))
	}
	for _, c := range []struct{ name, comment, text string }{
		{"not-toml", "it is not TOML", text + "[\n"},
		{"not-utf8", "it is not UTF-8", text + "# \xff\n"},
		{"key-twice", "a key occurs twice", strings.Replace(text, "serial = 1\n", "serial = 1\nserial = 1\n", 1)},
		{"unknown-key", "a key that is not defined", strings.Replace(text, "serial = 1\n", "serial = 1\nquota = 1\n", 1)},
		{"unknown-slot-key", "a key of a password slot that is not defined", head + slotText + "pepper = 1\n" + keyText},
		{"unknown-content-key-key", "a key of a content key that is not defined", text + "pepper = 1\n"},
		{"serial-missing", "a key is missing", strings.Replace(text, "serial = 1\n", "", 1)},
		{"user-missing", "there is no user", strings.Replace(text, "user = \""+string(alice)+"\"\n", "", 1)},
		{"user-twice", "there are user and user_hex", strings.Replace(text, "serial", "user_hex = \"ff\"\nserial", 1)},
		{"user-hex-utf8", "user_hex is UTF-8", strings.Replace(text, "user = \""+string(alice)+"\"\n", fmt.Sprintf("user_hex = \"%x\"\n", string(alice)), 1)},
		{"slot-public-missing", "a password slot without a public half", cutLine(head+slotText, "public = ", 2) + keyText},
		{"slots-empty", "a list of no slots", head + "slot = []\n" + keyText},
		{"65-slots", "there are 65 slots", head + manySlots.String() + keyText},
		{"no-content-keys", "there is no content key", head + slotText},
		{"slot-id-twice", "two slots have one id", head + slotText + slotText + keyText},
		{"content-key-id-twice", "two content keys have one id", head + slotText + strings.Replace(keyText, `"current"`, `"old"`, 1) + keyText},
		{"two-current", "two content keys are current", text + otherID(keyText, 0xffff)},
		{"none-current", "no content key is current", head + slotText + oldKey},
		{"slot-not-list", "the slot is a table", head + strings.Replace(slotText, "[[slot]]", "[slot]", 1) + keyText},
	} {
		m.add(vector{name: "user-" + c.name, comment: c.comment, kind: "user", dir: alice, expect: "corrupt", record: m.resealed(c.text)})
	}
}

func (m *maker) deliveries(good vector) {
	m.tb.Helper()
	for _, c := range []struct{ name, comment, old, new, expect string }{
		{"delivery-version-2", "a later version", "version = 1", "version = 2", "unsupported"},
		{"delivery-other-user", "the delivery key of another user", `"alice@example.org"`, `"bob"`, "corrupt"},
		{"delivery-other-id", "the id is not the name of the file", good.id, strings.Repeat("0", 32), "corrupt"},
		{"delivery-id-upper-case", "the id is in upper-case hex", good.id, strings.ToUpper(good.id), "corrupt"},
		{"delivery-unknown-key", "a key that is not defined", "\nid", "\nstate = \"old\"\nid", "corrupt"},
		{"delivery-too-large", "more than 8 KiB", "\nid", "\n#" + strings.Repeat("x", maxDeliverySize) + "\nid", "corrupt"},
		{"delivery-no-created", "a key is missing", "created = 2026-01-02T03:04:05Z\n", "", "corrupt"},
	} {
		v := good
		v.extra = nil
		v.name, v.comment, v.expect = c.name, c.comment, c.expect
		v.record = m.resealed(m.change(good, c.old, c.new))
		m.add(v)
	}
	v := good
	v.extra = nil
	v.name, v.comment, v.expect, v.record = "delivery-flipped", "one bit of the sealed key", "mac", flipped(string(good.record), 400)
	m.add(v)
}

// notes are the small records about a user.
func (m *maker) notes() {
	m.tb.Helper()
	b, err := (&Forgotten{User: alice, Salt: [UserSaltSize]byte(fill(0x90, UserSaltSize)), Enrolled: begin, At: begin.Add(time.Hour), By: "root",
		Slots: 2, ContentKeys: 1, Deliveries: 7}).Encode(m.mac)
	must(m.tb, err)
	forgotten := vector{name: "forgotten-good", comment: "a forgotten user", kind: "forgotten", dir: alice, expect: "ok", record: b}
	m.add(forgotten)
	b, err = (&Used{User: alice, Last: map[slot.ID]time.Time{{1}: begin, {2}: begin.Add(time.Hour)}}).Encode(m.mac)
	must(m.tb, err)
	used := vector{name: "used-good", comment: "two slots that were used", kind: "used", dir: alice, expect: "ok", record: b}
	m.add(used)
	for _, c := range []struct {
		of                              vector
		name, comment, old, new, expect string
	}{
		{forgotten, "version-2", "a later version", "version = 1", "version = 2", "unsupported"},
		{forgotten, "other-user", "another user", `"alice@example.org"`, `"bob"`, "corrupt"},
		{forgotten, "negative", "fewer than no slots", "\nslots = 2", "\nslots = -2", "corrupt"},
		{forgotten, "unknown-key", "a key that is not defined", "\nslots", "\nwhy = \"x\"\nslots", "corrupt"},
		{used, "version-2", "a later version", "version = 1", "version = 2", "unsupported"},
		{used, "other-user", "another user", `"alice@example.org"`, `"bob"`, "corrupt"},
		{used, "id-short", "an id of seven bytes", "\"0100000000000000\"", "\"01000000000000\"", "corrupt"},
	} {
		v := c.of
		v.name, v.comment, v.expect = c.of.kind+"-"+c.name, c.comment, c.expect
		v.record = m.resealed(m.change(c.of, c.old, c.new))
		m.add(v)
	}
	for _, v := range []vector{forgotten, used} {
		v.name, v.comment, v.expect = v.kind+"-other-secret", "the MAC is that of another site secret", "mac"
		v.record = m.otherSecret(v)
		m.add(v)
	}
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

// cutLine removes the n-th line that begins with prefix.
func cutLine(s, prefix string, n int) string {
	at := 0
	for range n {
		at += strings.Index(s[at:], "\n"+prefix) + 1
	}
	return s[:at] + s[at+strings.Index(s[at:], "\n")+1:]
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
