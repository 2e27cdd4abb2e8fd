package leaktest

import (
	"encoding/base64"
	"fmt"
	"mime/quotedprintable"
	"strings"
	"time"
)

// Message composes a message with the markers in its headers and body: as 8-bit text, quoted-printable and base64, and in
// an attachment.
func Message(markers []Marker, now time.Time) ([]byte, error) {
	m := make(map[string]Marker)
	for _, marker := range markers {
		m[marker.Part] = marker
	}
	body := "This message was planted by mailcryptfs leaktest, and will be removed by it.\n" + strings.Repeat(m["body"].Text()+"\n", 40)
	var qp strings.Builder
	w := quotedprintable.NewWriter(&qp)
	if _, err := w.Write([]byte(body)); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	const boundary = "mailcryptfs-leaktest-boundary"
	var b strings.Builder
	fmt.Fprintf(&b, "From: %s <%s@example.net>\n", m["sender"].Core, m["sender"].Core)
	fmt.Fprintf(&b, "To: leaktest@example.org\nSubject: %s\nDate: %s\n", m["subject"].Core, now.Format(time.RFC1123Z))
	fmt.Fprintf(&b, "Message-ID: <%d@leaktest.example.org>\nMIME-Version: 1.0\n", now.UnixNano())
	fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%q\n\n", boundary)
	part := func(headers, content string) { fmt.Fprintf(&b, "--%s\n%s\n\n%s\n", boundary, headers, content) }
	part("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit", body)
	part("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable", qp.String())
	part("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64", lines(base64.StdEncoding.EncodeToString([]byte(body))))
	attached := strings.Repeat(m["attachment"].Text()+"\n", 40)
	part("Content-Type: application/octet-stream; name=leaktest.bin\nContent-Disposition: attachment; filename=leaktest.bin\nContent-Transfer-Encoding: base64",
		lines(base64.StdEncoding.EncodeToString([]byte(attached))))
	fmt.Fprintf(&b, "--%s--\n", boundary)
	return []byte(b.String()), nil
}

// lines breaks base64 at 76 characters, as mail programs do.
func lines(s string) string {
	var b strings.Builder
	for len(s) > 76 {
		b.WriteString(s[:76] + "\n")
		s = s[76:]
	}
	return b.String() + s
}
