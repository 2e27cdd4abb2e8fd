package records

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// table takes the values of a TOML table one by one, keeps the first thing that is wrong, and knows what nobody took:
// that is how unknown keys are refused.
type table struct {
	name string // for messages: "" for the document
	rest map[string]any
	err  error
}

// parseTable reads a record whose MAC was found right, and takes what the header had.
func parseTable(b []byte) *table {
	t := new(table)
	if err := toml.Unmarshal(b, &t.rest); err != nil {
		t.fail("it is not TOML: %v", err)
		return t
	}
	for _, key := range []string{"mac", "format", "version"} {
		delete(t.rest, key)
	}
	return t
}

func (t *table) fail(format string, args ...any) {
	if t.err == nil {
		t.err = corrupt("%s%s", t.name, fmt.Sprintf(format, args...))
	}
}

// done returns what was wrong first, or that a key is left.
func (t *table) done() error {
	if t.err == nil && len(t.rest) > 0 {
		t.fail("unknown key %q", slices.Sorted(maps.Keys(t.rest))[0])
	}
	return t.err
}

// take removes the value of a key that must be there and of type T.
func take[T any](t *table, key string) T {
	v, ok := t.rest[key].(T)
	if !ok {
		if _, there := t.rest[key]; there {
			t.fail("%q has the wrong type", key)
		} else {
			t.fail("%q is missing", key)
		}
	}
	delete(t.rest, key)
	return v
}

func (t *table) text(key string, limit int) string {
	s := take[string](t, key)
	if len(s) > limit {
		t.fail("%q has more than %d bytes", key, limit)
	}
	return s
}

func (t *table) integer(key string, low, high int64) int64 {
	n := take[int64](t, key)
	if n < low || n > high {
		t.fail("%q is %d, allowed are %d to %d", key, n, low, high)
	}
	return n
}

// time takes an RFC 3339 time in UTC; TOML's local times and other offsets are refused.
func (t *table) time(key string) time.Time {
	v := take[time.Time](t, key)
	_, offset := v.Zone()
	// The decoder marks local times by the name of their location.
	switch v.Location().String() {
	case "datetime-local", "date-local", "time-local":
		offset = -1
	}
	if offset != 0 {
		t.fail("%q is not in UTC", key)
	}
	return v.UTC()
}

// base64 takes exactly size bytes in base64 with padding.
func (t *table) base64(key string, size int) []byte {
	s := take[string](t, key)
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	// Decoders skip line breaks; the comparison does not.
	if err != nil || base64.StdEncoding.EncodeToString(b) != s {
		t.fail("%q is not base64", key)
	} else if len(b) != size {
		t.fail("%q has %d bytes, not %d", key, len(b), size)
	}
	return b
}

// base64UpTo takes 1 to limit bytes in base64 with padding.
func (t *table) base64UpTo(key string, limit int) []byte {
	s, ok := t.rest[key].(string)
	n := base64.StdEncoding.DecodedLen(len(s))
	if ok {
		n -= min(len(s), strings.Count(s[max(0, len(s)-2):], "="))
		if n < 1 || n > limit {
			t.fail("%q has %d bytes, allowed are 1 to %d", key, n, limit)
		}
	}
	return t.base64(key, n)
}

// hex takes exactly len(into) bytes in lower-case hex.
func (t *table) hex(key string, into []byte) {
	s := take[string](t, key)
	b, err := hex.DecodeString(s)
	if err != nil || hex.EncodeToString(b) != s {
		t.fail("%q is not lower-case hex", key)
	} else if len(b) != len(into) {
		t.fail("%q has %d bytes, not %d", key, len(b), len(into))
	}
	copy(into, b)
}

// user takes "user", or "user_hex" for a name that is not UTF-8 (FORMAT.md K10).
func (t *table) user() account.User {
	var name string
	if _, isHex := t.rest["user_hex"]; isHex {
		s := take[string](t, "user_hex")
		b, err := hex.DecodeString(s)
		if err != nil || hex.EncodeToString(b) != s {
			t.fail("%q is not lower-case hex", "user_hex")
		} else if utf8.Valid(b) {
			t.fail("%q is for names that are not UTF-8", "user_hex")
		}
		name = string(b)
	} else {
		name = take[string](t, "user")
	}
	u, err := account.Parse(name)
	if err != nil {
		t.fail("%v", err)
	}
	return u
}

// tables takes an array of 1 to limit tables and calls f with each.
func (t *table) tables(key string, limit int, f func(*table)) {
	list := take[[]map[string]any](t, key)
	if t.err == nil && (len(list) < 1 || len(list) > limit) {
		t.fail("there are %d of %q, allowed are 1 to %d", len(list), key, limit)
	}
	for i, m := range list {
		if t.err != nil {
			return
		}
		sub := &table{name: fmt.Sprintf("%s %d: ", key, i+1), rest: m}
		f(sub)
		t.err = sub.done()
	}
}

// has tells whether there is such a key.
func (t *table) has(key string) bool {
	_, ok := t.rest[key]
	return ok
}

func (t *table) boolean(key string) bool { return take[bool](t, key) }

// sub takes one table.
func (t *table) sub(key string, f func(*table)) {
	sub := &table{name: key + ": ", rest: take[map[string]any](t, key)}
	if t.err != nil {
		return
	}
	f(sub)
	t.err = sub.done()
}
