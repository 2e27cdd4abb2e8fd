package records

import (
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

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
