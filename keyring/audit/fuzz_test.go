package audit

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"
)

// FuzzLine lets anything stand in an authentic line: what parses is an event, and the line of an event says the same
// again. Anything that is not authentic is refused.
func FuzzLine(f *testing.F) {
	keys := exampleKeys(f)
	for _, e := range []Event{
		{What: Begin}, {What: Unlock, User: "alice", Peer: "imap"}, {What: Export, User: "b\xffb", By: "root", Detail: "ä\n\"<&>\u2028"},
	} {
		l := newLine(e)
		if e.What == Begin {
			l.Log, l.Version = logName, version
		}
		b, err := l.seal("mx1", keys.Audit)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:len(b)-macTail])
		f.Add(b)
	}
	f.Add([]byte(`{"log":"mailcryptfs audit log","version":2}`))
	f.Add([]byte(`{"seq":1,"time":"2026-01-02T03:04:05.000Z","what":"unlock","user_hex":"zz","prev":"","x":1`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := parseLine(body, "mx1", keys.Audit); err == nil {
			t.Log("the fuzzer repeated a line")
		}
		m, err := authenticate(lineLabel, "mx1", body, keys.Audit)
		if err != nil {
			t.Fatal(err)
		}
		sealed := fmt.Appendf(bytes.Clone(body), ",\"mac\":%q}\n", m)
		l, err := parseLine(sealed, "mx1", keys.Audit)
		if err != nil {
			if !errors.Is(err, errLine) && !errors.Is(err, ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		if _, err := parseLine(sealed, "mx2", keys.Audit); !errors.Is(err, errLine) {
			t.Errorf("a line of another host: %v", err)
		}
		e, err := l.event()
		if err != nil {
			return
		}
		again := newLine(e)
		if e2, err := again.event(); err != nil || e2.What != text(e.What, maxText) || e2.User != e.User || !e2.Time.Equal(e.Time) {
			t.Errorf("%+v became %+v, %v", e, e2, err)
		}
	})
}

// FuzzHead decodes heads; what decodes encodes to the same bytes.
func FuzzHead(f *testing.F) {
	keys := exampleKeys(f)
	good, err := encodeHead(position{month: "2026-01", offset: 4711, seq: 12, mac: mac{1, 2}}, "mx1", keys.Audit)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:100])
	f.Add(append(bytes.Clone(good[:len(good)-1]), ' '))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodeHead(b, "mx1", keys.Audit)
		if err != nil {
			return
		}
		if again, err := encodeHead(p, "mx1", keys.Audit); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q became %q, %v", b, again, err)
		}
	})
}

func BenchmarkAppendUnlock(b *testing.B) {
	bench := newBench(b)
	l := bench.open("mx1")
	for b.Loop() {
		if err := l.Append(Event{Time: time.Unix(1, 0), User: "alice@example.org", What: Unlock, Cause: "login", Peer: "imap"}); err != nil {
			b.Fatal(err)
		}
	}
}
