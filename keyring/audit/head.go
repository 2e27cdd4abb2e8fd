package audit

import (
	"bytes"
	"crypto/hmac"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

const (
	headLabel = "mailcryptfs audit head v1\x00"
	// headSize is the size of a head in bytes: one sector, so that a power cut leaves the old one or the new one.
	headSize = 512
)

// position is a place in the chain of a host: the end of the line that it names. The zero value is the beginning.
type position struct {
	month  string
	offset int64 // in the segment of the month, in bytes
	seq    uint64
	mac    mac
}

// head is what the head of a chain says (FORMAT.md L5): a line that is durable.
type head struct {
	Seq    uint64 `json:"seq"`
	Month  string `json:"month"`
	Offset int64  `json:"offset"`
	Last   string `json:"last"`
}

func parseHead(name string) (host string, ok bool) {
	host, ok = strings.CutSuffix(name, headSuffix)
	return host, ok && isHost(host)
}

// encodeHead returns the 512 bytes that say where the chain is durable.
func encodeHead(p position, host string, key *secret.Key) ([]byte, error) {
	body, err := json.Marshal(head{Seq: p.seq, Month: p.month, Offset: p.offset, Last: p.mac.String()})
	if err != nil {
		return nil, err
	}
	body = bytes.TrimSuffix(body, []byte("}"))
	m, err := authenticate(headLabel, host, body, key)
	if err != nil {
		return nil, err
	}
	b := fmt.Appendf(body, ",\"mac\":%q}", m)
	return append(append(b, bytes.Repeat([]byte{' '}, headSize-1-len(b))...), '\n'), nil
}

// decodeHead is the inverse of encodeHead. It returns errLine for anything else, an empty file too.
func decodeHead(b []byte, host string, key *secret.Key) (position, error) {
	if len(b) != headSize || b[headSize-1] != '\n' {
		return position{}, errLine
	}
	trimmed := append(bytes.Clone(bytes.TrimRight(b[:headSize-1], " ")), '\n')
	body, found, ok := cutMAC(trimmed)
	if !ok {
		return position{}, errLine
	}
	want, err := authenticate(headLabel, host, body, key)
	if err != nil {
		return position{}, err
	}
	var h head
	if !hmac.Equal(want[:], found[:]) || json.Unmarshal(append(bytes.Clone(body), '}'), &h) != nil {
		return position{}, errLine
	}
	p := position{month: h.Month, offset: h.Offset, seq: h.Seq}
	if _, err := hex.Decode(p.mac[:], []byte(h.Last)); err != nil || len(h.Last) != 2*macSize {
		return position{}, errLine
	}
	return p, nil
}

// readHead reads the head of a chain: the zero position if there is none, or none that can be trusted.
func readHead(f *os.File, host string, key *secret.Key) (position, error) {
	b := make([]byte, headSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return position{}, err
	}
	p, err := decodeHead(b[:n], host, key)
	if errors.Is(err, errLine) {
		return position{}, nil
	}
	return p, err
}

// holds reports whether the line that p names ends at p in the segment: nobody has cut or replaced it.
func (p position) holds(f *os.File) (bool, error) {
	tail := make([]byte, macTail)
	if p.offset < int64(macTail) {
		return false, nil
	}
	n, err := f.ReadAt(tail, p.offset-int64(macTail))
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return n == macTail && string(tail) == fmt.Sprintf(",\"mac\":%q}\n", p.mac), nil
}
