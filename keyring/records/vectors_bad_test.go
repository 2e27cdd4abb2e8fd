package records

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

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

// cutLine removes the n-th line that begins with prefix.
func cutLine(s, prefix string, n int) string {
	at := 0
	for range n {
		at += strings.Index(s[at:], "\n"+prefix) + 1
	}
	return s[:at] + s[at+strings.Index(s[at:], "\n")+1:]
}
