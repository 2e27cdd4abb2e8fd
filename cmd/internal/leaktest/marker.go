// Package leaktest plants messages with random markers in a user's mail and searches every byte of directories and
// devices for them, also in the forms in which mail encodes text.
package leaktest

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// Marker is a random text that occurs nowhere else.
type Marker struct {
	Part string `json:"part"` // of the message that it stands in: "body", "subject", …
	Core string `json:"core"` // lower-case letters and digits
}

// Parts are the parts of a message, and of its place, that get a marker of their own.
var Parts = []string{"body", "subject", "sender", "folder", "attachment"}

// prefix begins every marker, so that what a test has left can be told from mail.
const prefix = "mcleak"

// NewMarkers returns a marker for each part. Each has 120 random bits.
func NewMarkers() []Marker {
	var all []Marker
	for _, part := range Parts {
		all = append(all, Marker{Part: part, Core: prefix + strings.ToLower(rand.Text()[:24])})
	}
	return all
}

// beyondASCII follows the core in bodies, so that encodings of text show: "ü=" is "=C3=BC=3D" in quoted-printable.
const beyondASCII = "ü="

// Text is the marker as it stands in text that may be encoded.
func (m Marker) Text() string { return m.Core + beyondASCII }

// pattern is one form of a marker as bytes.
type pattern struct {
	marker Marker
	form   string
	bytes  []byte
}

// patterns returns the forms in which a marker is looked for. A plain core comes last: it is in text of any encoding that
// leaves ASCII alone, and is reported only where no other form is.
func (m Marker) patterns() []pattern {
	var all []pattern
	add := func(form string, b []byte) { all = append(all, pattern{m, form, b}) }
	for i, b := range base64Forms([]byte(m.Core)) {
		add(fmt.Sprintf("base64, alignment %d", i), b)
	}
	add("UTF-16", utf16Bytes(m.Core))
	add("quoted-printable", []byte(m.Core+"=C3=BC=3D"))
	add("hexadecimal", []byte(hex.EncodeToString([]byte(m.Core))))
	add("upper case", bytes.ToUpper([]byte(m.Core)))
	add("plain text", []byte(m.Core))
	return all
}

// base64Forms returns what of the base64 of a longer text does not depend on what stands around b, for each of the three
// places that b can have in it.
func base64Forms(b []byte) [][]byte {
	var forms [][]byte
	for skip := range 3 {
		padded := append(make([]byte, skip), b...)
		encoded := base64.StdEncoding.EncodeToString(padded)
		// The first characters hold bits of what is before, the last ones of what is after.
		from := []int{0, 2, 3}[skip]
		to := len(padded) * 8 / 6
		forms = append(forms, []byte(encoded[from:to]))
	}
	return forms
}

// utf16Bytes returns what the two byte orders of ASCII text in UTF-16 have in common: zero bytes between the letters.
func utf16Bytes(s string) []byte { return []byte(strings.Join(strings.Split(s, ""), "\x00")) }
