package records

import (
	"encoding/base64"
	"strings"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/code"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

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
