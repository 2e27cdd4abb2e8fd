package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/mailcryptfs/mailcryptfs/pam/wire"
)

var update = flag.Bool("update", false, "write the golden frames anew")

// requests are the inputs of testdata/requests.txt, which the C test reads too.
var requests = []wire.Request{
	{Kind: wire.Login, User: "alice", Service: "imap", RemoteHost: "192.0.2.7", Password: []byte("correct horse")},
	{Kind: wire.Login, User: "a", Password: []byte("p")},
	{Kind: wire.Login, User: "o'neil/x%y z@exämple.org", Service: "pop3", RemoteHost: "2001:db8::1", Password: []byte("p%s @/ \tß\xff")},
	{
		Kind: wire.Login, User: strings.Repeat("u", wire.MaxUser), Service: strings.Repeat("s", wire.MaxService),
		RemoteHost: strings.Repeat("h", wire.MaxHost), Password: bytes.Repeat([]byte("p"), wire.MaxPassword),
	},
	{Kind: wire.Change, User: "alice", Old: []byte("old"), Password: []byte("new one")},
	{
		Kind: wire.Change, User: strings.Repeat("u", wire.MaxUser),
		Old: bytes.Repeat([]byte("o"), wire.MaxPassword), Password: bytes.Repeat([]byte("n"), wire.MaxPassword),
	},
	{Kind: wire.Reset, User: "alice", Password: []byte("new one")},
	{Kind: wire.Reset, User: strings.Repeat("u", wire.MaxUser), Password: bytes.Repeat([]byte("n"), wire.MaxPassword)},
}

// answers are the inputs of testdata/answers.txt, which the C test reads too.
var answers = []wire.Answer{
	{Status: wire.OK},
	{Status: wire.NotEnrolled, Text: "the user has no keys"},
	{Status: wire.WrongSecret, Text: "run 'mailcryptfs passwd' ~"},
	{Status: wire.Failed, Text: strings.Repeat("t", wire.MaxText)},
	{Status: 255, Text: "a status of the future"},
}

func values(r wire.Request) []string {
	switch r.Kind {
	case wire.Login:
		return []string{r.User, r.Service, r.RemoteHost, string(r.Password)}
	case wire.Change:
		return []string{r.User, string(r.Old), string(r.Password)}
	}
	return []string{r.User, string(r.Password)}
}

// hexWord writes an empty string as "-", so that words separated by spaces can be counted.
func hexWord(s string) string {
	if s == "" {
		return "-"
	}
	return hex.EncodeToString([]byte(s))
}

func goldenRequests(t *testing.T) string {
	t.Helper()
	b := new(strings.Builder)
	b.WriteString("# One request a line: kind, the fields in the order of PROTOCOL.md P6, \"=\", the frame. Hex; \"-\" is empty.\n")
	for _, r := range requests {
		frame, err := r.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(b, "%d", r.Kind)
		for _, v := range values(r) {
			fmt.Fprintf(b, " %s", hexWord(v))
		}
		fmt.Fprintf(b, " = %x\n", frame)
	}
	return b.String()
}

func goldenAnswers(t *testing.T) string {
	t.Helper()
	b := new(strings.Builder)
	b.WriteString("# One answer a line: status (decimal), text, \"=\", the frame. Hex; \"-\" is empty.\n")
	for _, a := range answers {
		frame, err := a.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(b, "%d %s = %x\n", a.Status, hexWord(a.Text), frame)
	}
	return b.String()
}

func TestGoldenFrames(t *testing.T) {
	for name, got := range map[string]string{"requests.txt": goldenRequests(t), "answers.txt": goldenAnswers(t)} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is not what the encoder writes", path)
		}
	}
}

func TestRequestRoundTrip(t *testing.T) {
	for _, r := range requests {
		frame, err := r.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := wire.ParseRequest(frame)
		if err != nil {
			t.Fatalf("%v: %v", r, err)
		}
		assertSame(t, r, parsed)

		page := make([]byte, wire.MaxRequest)
		rest := bytes.NewReader(append(bytes.Clone(frame), "next"...))
		read, err := wire.ReadRequest(iotest.OneByteReader(rest), page)
		if err != nil {
			t.Fatalf("%v: %v", r, err)
		}
		assertSame(t, r, read)
		if rest.Len() != len("next") {
			t.Errorf("%v: read beyond the request", r)
		}
	}
}

func assertSame(t *testing.T, want, got wire.Request) {
	t.Helper()
	if want.Kind != got.Kind || strings.Join(values(want), "\n") != strings.Join(values(got), "\n") {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestLimitsMatchProtocol(t *testing.T) {
	longest := 0
	for _, r := range requests {
		frame, err := r.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		longest = max(longest, len(frame))
	}
	if longest != wire.MaxRequest || longest > 4096 {
		t.Errorf("the longest request has %d bytes, MaxRequest is %d; one page must hold it", longest, wire.MaxRequest)
	}
}

func TestAppendRefuses(t *testing.T) {
	long := strings.Repeat("x", 1025)
	for name, r := range map[string]wire.Request{
		"no user":            {Kind: wire.Login, Password: []byte("p")},
		"long user":          {Kind: wire.Login, User: long, Password: []byte("p")},
		"zero byte in user":  {Kind: wire.Login, User: "a\x00b", Password: []byte("p")},
		"long service":       {Kind: wire.Login, User: "a", Service: long[:129], Password: []byte("p")},
		"long host":          {Kind: wire.Login, User: "a", RemoteHost: long[:256], Password: []byte("p")},
		"no password":        {Kind: wire.Login, User: "a"},
		"long password":      {Kind: wire.Login, User: "a", Password: []byte(long)},
		"zero byte password": {Kind: wire.Reset, User: "a", Password: []byte("a\x00")},
		"no old":             {Kind: wire.Change, User: "a", Password: []byte("p")},
		"long old":           {Kind: wire.Change, User: "a", Old: []byte(long), Password: []byte("p")},
		"unknown kind":       {Kind: 4, User: "a", Password: []byte("p")},
		"zero kind":          {User: "a", Password: []byte("p")},
	} {
		t.Run(name, func(t *testing.T) {
			dst := make([]byte, 2, 4096)
			frame, err := r.Append(dst)
			if !errors.Is(err, wire.ErrMalformed) || len(frame) != 2 {
				t.Errorf("got %d bytes, %v", len(frame), err)
			}
			if !bytes.Equal(dst[2:cap(dst)][8:], make([]byte, 4096-10)) {
				t.Error("a part of the frame is left in the buffer")
			}
		})
	}
}

// refused holds frames that break one rule each.
var refused = map[string]struct {
	frame string
	want  error
}{
	"empty":               {"", wire.ErrMalformed},
	"magic":               {"6d637061 01 03 0006 000161 000170", wire.ErrMalformed},
	"version 0":           {"6d637072 00 03 0006 000161 000170", wire.ErrVersion},
	"version 2":           {"6d637072 02 09 ffff", wire.ErrVersion},
	"kind 0":              {"6d637072 01 00 0000", wire.ErrMalformed},
	"kind 4":              {"6d637072 01 04 0006 000161 000170", wire.ErrMalformed},
	"body too long":       {"6d637072 01 03 ffff 000161 000170", wire.ErrMalformed},
	"body cut":            {"6d637072 01 03 0006 000161 0001", wire.ErrMalformed},
	"bytes after":         {"6d637072 01 03 0007 000161 000170 00", wire.ErrMalformed},
	"bytes after frame":   {"6d637072 01 03 0006 000161 000170 00", wire.ErrMalformed},
	"field past the end":  {"6d637072 01 03 0006 000161 000270", wire.ErrMalformed},
	"field missing":       {"6d637072 01 03 0003 000161", wire.ErrMalformed},
	"empty user":          {"6d637072 01 03 0005 0000 000170", wire.ErrMalformed},
	"empty password":      {"6d637072 01 03 0005 000161 0000", wire.ErrMalformed},
	"zero byte":           {"6d637072 01 03 0007 00026100 000170", wire.ErrMalformed},
	"service over limit":  {"6d637072 01 01 0089 000161 0081" + strings.Repeat("73", 129) + " 0000 000170", wire.ErrMalformed},
	"password over limit": {"6d637072 01 03 0406 000161 0401" + strings.Repeat("70", 1025), wire.ErrMalformed},
}

func TestParseRefuses(t *testing.T) {
	for name, c := range refused {
		t.Run(name, func(t *testing.T) {
			frame, err := hex.DecodeString(strings.ReplaceAll(c.frame, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			if r, err := wire.ParseRequest(frame); !errors.Is(err, c.want) {
				t.Errorf("got %v, %v; want %v", r, err, c.want)
			}
		})
	}
}

func TestReadRequestEnds(t *testing.T) {
	frame, err := requests[0].Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(frame) {
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF // P2: a question whether anybody listens
		}
		_, err := wire.ReadRequest(bytes.NewReader(frame[:n]), make([]byte, wire.MaxRequest))
		if !errors.Is(err, want) {
			t.Errorf("after %d bytes: got %v, want %v", n, err, want)
		}
	}
}

func TestAnswerRoundTrip(t *testing.T) {
	for _, a := range answers {
		frame, err := a.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := wire.ParseAnswer(frame); err != nil || got != a {
			t.Errorf("got %v, %v; want %v", got, err, a)
		}
		if got, err := wire.ReadAnswer(iotest.OneByteReader(bytes.NewReader(frame))); err != nil || got != a {
			t.Errorf("got %v, %v; want %v", got, err, a)
		}
		for n := range len(frame) {
			if _, err := wire.ReadAnswer(bytes.NewReader(frame[:n])); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("after %d bytes: %v", n, err)
			}
		}
	}
}

func TestAnswerRefuses(t *testing.T) {
	for name, a := range map[string]wire.Answer{
		"long": {Text: strings.Repeat("t", 201)}, "newline": {Text: "a\nb"}, "not ASCII": {Text: "ä"},
	} {
		if _, err := a.Append(nil); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for frame, want := range map[string]error{
		"mcpr\x01\x00\x00\x00":         wire.ErrMalformed,
		"mcpa\x02\x00\x00\x00":         wire.ErrVersion,
		"mcpa\x01\x00\x00\xc9":         wire.ErrMalformed,
		"mcpa\x01\x00\x00\x01\n":       wire.ErrMalformed,
		"mcpa\x01\x00\x00\x01ab":       wire.ErrMalformed,
		"mcpa\x01\x00\x00":             wire.ErrMalformed,
		"mcpa\x01\x00\x00\x02\x7f\x7f": wire.ErrMalformed,
	} {
		if _, err := wire.ParseAnswer([]byte(frame)); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", frame, err, want)
		}
	}
}

func TestRequestIsPrintedWithoutPasswords(t *testing.T) {
	r := wire.Request{Kind: wire.Change, User: "alice", Old: []byte("old-secret"), Password: []byte("new-secret")}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "request", r, "pointer", &r)
	printed := log.String() + fmt.Sprintf("%v %+v %#v %s %x %v", r, r, r, r, r, &r)
	for _, secret := range []string{"secret", hex.EncodeToString(r.Old), "111 108 100"} {
		if strings.Contains(printed, secret) {
			t.Errorf("%q shows %q", printed, secret)
		}
	}
}
