package records

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// ParseUser reads a user's record and checks its MAC and every limit (FORMAT.md K9, K10). Errors: ErrUnsupported,
// ErrCorrupt (with ErrMAC if it does not authenticate), secret.ErrWiped.
func ParseUser(b []byte, mac *secret.Key) (*User, error) {
	if err := open(b, formatUser, maxUserSize, mac); err != nil {
		return nil, err
	}
	t := parseTable(b)
	u := &User{
		User:    t.user(),
		Serial:  t.integer("serial", 1, math.MaxInt64),
		Created: t.time("created"),
	}
	t.hex("salt", u.Salt[:])
	copy(u.Public[:], t.base64("public", slot.PublicSize))
	if t.has("rotation") {
		t.sub("rotation", func(t *table) { u.Rotation = parseRotation(t) })
	}
	if t.has("slot") {
		t.tables("slot", MaxSlots, func(t *table) { u.Slots = append(u.Slots, parseSlot(t)) })
	}
	t.tables("content_key", maxContentKeys, func(t *table) { u.ContentKeys = append(u.ContentKeys, parseContentKey(t)) })
	if t.has("identity") {
		t.tables("identity", maxIdentities, func(t *table) { u.Identities = append(u.Identities, parseIdentity(t)) })
	}
	if err := t.done(); err != nil {
		return nil, err
	}
	return u, u.checkIDs()
}

func parseSlot(t *table) Slot {
	all := maps.Clone(t.rest)
	var s Slot
	t.hex("id", s.ID[:])
	s.Kind = slot.Kind(t.text("kind", maxKind))
	s.Label = t.text("label", maxLabel)
	s.Created = t.time("created")
	s.CreatedBy = t.text("created_by", maxLabel)
	if !s.Kind.Known() {
		// A later program may have put anything else here: kept as it is, never used.
		clear(t.rest)
		s.unknown = all
		return s
	}
	if s.Kind == slot.KindRecovery {
		s.Recipient = t.text("recipient", maxRecipient)
		s.Wrapped = t.base64UpTo("wrapped", maxSealedFile)
		return s
	}
	s.Public = t.base64("public", slot.PublicSize)
	s.Wrapped = t.base64("wrapped", slot.WrappedSize)
	if s.Kind != slot.KindPassword {
		return s
	}
	s.Params = slot.Params{
		MemoryKiB: uint32(t.integer("memory_kib", slot.MinMemoryKiB, slot.MaxMemoryKiB)),
		Time:      uint32(t.integer("time", slot.MinTime, slot.MaxTime)),
		Threads:   uint8(t.integer("threads", slot.MinThreads, slot.MaxThreads)),
	}
	return s
}

func parseRotation(t *table) *Rotation {
	r := &Rotation{Started: t.time("started"), By: t.text("by", maxLabel), Identity: t.boolean("identity"), Pending: t.boolean("pending")}
	if r.Started.Nanosecond() != 0 {
		t.fail("%q has fractions of a second", "started")
	}
	if r.Pending && !r.Identity {
		t.fail("an identity is pending that is not asked for")
	}
	return r
}

func parseIdentity(t *table) PreviousIdentity {
	var p PreviousIdentity
	copy(p.Public[:], t.base64("public", slot.PublicSize))
	p.Replaced = t.time("replaced")
	p.Sealed = t.base64("sealed", slot.SealedSize)
	return p
}

func parseContentKey(t *table) ContentKey {
	var k ContentKey
	t.hex("id", k.ID[:])
	k.Created = t.time("created")
	k.State = State(t.text("state", maxKind))
	if k.State != Current && k.State != Old {
		t.fail("state %q is unknown", k.State)
	}
	k.Sealed = t.base64("sealed", slot.SealedSize)
	return k
}

// checkIDs refuses ids that occur twice, and any number of current content keys but one.
func (u *User) checkIDs() error {
	slots := make(map[slot.ID]bool)
	for i := range u.Slots {
		if slots[u.Slots[i].ID] {
			return corrupt("slot id %s occurs twice", u.Slots[i].ID)
		}
		slots[u.Slots[i].ID] = true
	}
	keys := make(map[secret.ID]bool)
	current := 0
	for i := range u.ContentKeys {
		k := &u.ContentKeys[i]
		if keys[k.ID] {
			return corrupt("content key id %s occurs twice", k.ID)
		}
		keys[k.ID] = true
		if k.State == Current {
			current++
		}
	}
	if current != 1 {
		return corrupt("there are %d current content keys", current)
	}
	return nil
}

// Encode returns the record with its MAC. It refuses what ParseUser would refuse. Error: secret.ErrWiped.
func (u *User) Encode(mac *secret.Key) ([]byte, error) {
	b := beginBody(formatUser)
	putUser(b, u.User)
	putInt(b, "serial", u.Serial)
	putTime(b, "created", u.Created)
	putHex(b, "salt", u.Salt[:])
	putBase64(b, "public", u.Public[:])
	if u.Rotation != nil {
		b.WriteByte('\n')
		u.Rotation.put(b)
	}
	for i := range u.Slots {
		b.WriteByte('\n')
		if err := u.Slots[i].put(b); err != nil {
			return nil, err
		}
	}
	for i := range u.ContentKeys {
		b.WriteByte('\n')
		u.ContentKeys[i].put(b)
	}
	for i := range u.Identities {
		b.WriteByte('\n')
		u.Identities[i].put(b)
	}
	sealed, err := seal(b.Bytes(), formatUser, maxUserSize, mac)
	if err != nil {
		return nil, err
	}
	// A record that cannot be read again would lock its user out: better no change than that.
	if _, err := ParseUser(sealed, mac); err != nil {
		return nil, fmt.Errorf("cannot encode a user's record: %w", err)
	}
	return sealed, nil
}

func (s *Slot) put(b *bytes.Buffer) error {
	if !s.Known() {
		enc := toml.NewEncoder(b)
		enc.Indent = ""
		if err := enc.Encode(map[string]any{"slot": []map[string]any{s.unknown}}); err != nil {
			return fmt.Errorf("cannot keep a slot of kind %q: %w", s.Kind, err)
		}
		return nil
	}
	if !utf8.ValidString(s.Label) || !utf8.ValidString(s.CreatedBy) || !utf8.ValidString(s.Recipient) {
		return errors.New("labels of slots are UTF-8")
	}
	b.WriteString("[[slot]]\n")
	putHex(b, "id", s.ID[:])
	putText(b, "kind", string(s.Kind))
	putText(b, "label", s.Label)
	putTime(b, "created", s.Created)
	putText(b, "created_by", s.CreatedBy)
	switch s.Kind {
	case slot.KindRecovery:
		putText(b, "recipient", s.Recipient)
	default:
		putBase64(b, "public", s.Public)
	}
	putBase64(b, "wrapped", s.Wrapped)
	if s.Kind != slot.KindPassword {
		return nil
	}
	putInt(b, "memory_kib", int64(s.Params.MemoryKiB))
	putInt(b, "time", int64(s.Params.Time))
	putInt(b, "threads", int64(s.Params.Threads))
	return nil
}

func (k *ContentKey) put(b *bytes.Buffer) {
	b.WriteString("[[content_key]]\n")
	putHex(b, "id", k.ID[:])
	putTime(b, "created", k.Created)
	putText(b, "state", string(k.State))
	putBase64(b, "sealed", k.Sealed)
}

func (r *Rotation) put(b *bytes.Buffer) {
	b.WriteString("[rotation]\n")
	putTime(b, "started", r.Started)
	putText(b, "by", r.By)
	putBool(b, "identity", r.Identity)
	putBool(b, "pending", r.Pending)
}

func (p *PreviousIdentity) put(b *bytes.Buffer) {
	b.WriteString("[[identity]]\n")
	putBase64(b, "public", p.Public[:])
	putTime(b, "replaced", p.Replaced)
	putBase64(b, "sealed", p.Sealed)
}
