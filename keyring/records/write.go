package records

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// These append one line each, in the one spelling that our writers use.

func putText(b *bytes.Buffer, key, s string) {
	fmt.Fprintf(b, "%s = ", key)
	quote(b, s)
	b.WriteByte('\n')
}

func putHex(b *bytes.Buffer, key string, v []byte) { fmt.Fprintf(b, "%s = \"%x\"\n", key, v) }

func putBase64(b *bytes.Buffer, key string, v []byte) {
	fmt.Fprintf(b, "%s = \"%s\"\n", key, base64.StdEncoding.EncodeToString(v))
}

func putTime(b *bytes.Buffer, key string, t time.Time) {
	fmt.Fprintf(b, "%s = %s\n", key, t.UTC().Format(time.RFC3339Nano))
}

func putInt(b *bytes.Buffer, key string, n int64) { fmt.Fprintf(b, "%s = %d\n", key, n) }

func putBool(b *bytes.Buffer, key string, v bool) { fmt.Fprintf(b, "%s = %t\n", key, v) }

func putUser(b *bytes.Buffer, u account.User) {
	if utf8.ValidString(string(u)) {
		putText(b, "user", string(u))
	} else {
		putHex(b, "user_hex", []byte(u))
	}
}

// quote writes a TOML basic string; strconv.Quote has escapes that TOML does not know.
func quote(b *bytes.Buffer, s string) {
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(b, "\\u%04X", r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
}
