package leaktest

import (
	"bytes"
	"errors"
	"io"
	"slices"
)

// Hit is a marker that was found.
type Hit struct {
	Part  string `json:"part"` // of the message, whose marker it is
	Form  string `json:"form"` // as what it was found
	Where string `json:"where"`
	What  string `json:"what"`   // "content", "name", "target of a link", "extended attribute", or "device"
	At    int64  `json:"offset"` // of the first one, in bytes
	Count int    `json:"count"`
}

// Searcher looks for the markers in bytes. It is safe for concurrent use.
type Searcher struct {
	patterns []pattern
	begins   [1 << 16]bool // the first two bytes of a pattern
	first    map[int][]int // patterns by their first two bytes
	longest  int
}

// NewSearcher makes a Searcher for all forms of the markers.
func NewSearcher(markers []Marker) *Searcher {
	s := &Searcher{first: make(map[int][]int)}
	for _, m := range markers {
		s.patterns = append(s.patterns, m.patterns()...)
	}
	for i, p := range s.patterns {
		key := int(p.bytes[0])<<8 | int(p.bytes[1])
		s.begins[key] = true
		s.first[key] = append(s.first[key], i)
		s.longest = max(s.longest, len(p.bytes))
	}
	return s
}

// chunk is how much is read at once, in bytes.
const chunk = 1 << 20

// Buffer returns a buffer for Read.
func (s *Searcher) Buffer() []byte { return make([]byte, 0, chunk+s.longest) }

// Read searches everything that r gives, and calls read with the number of bytes as it goes on. It works in buf, which
// comes from Buffer and can be used again.
func (s *Searcher) Read(r io.Reader, what, where string, buf []byte, read func(int)) ([]Hit, error) {
	c := &collector{s: s, what: what, where: where}
	buf = buf[:0]
	var base int64 // offset of buf[0]
	for {
		n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		read(n)
		buf = buf[:len(buf)+n]
		end := err != nil
		// What may go on in the next chunk is looked at then.
		limit := len(buf)
		if !end {
			limit -= s.longest
		}
		c.scan(buf, limit, base)
		if end {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = nil
			}
			return c.hits, err
		}
		rest := copy(buf, buf[limit:])
		base += int64(limit)
		buf = buf[:rest]
	}
}

// Bytes searches b.
func (s *Searcher) Bytes(b []byte, what, where string) []Hit {
	c := &collector{s: s, what: what, where: where}
	c.scan(b, len(b), 0)
	return c.hits
}

// collector gathers the hits in one place, one for each marker and form.
type collector struct {
	s           *Searcher
	what, where string
	hits        []Hit
	covered     int64 // up to here, a form was found that contains the plain core
}

// scan looks for patterns that begin before limit.
func (c *collector) scan(b []byte, limit int, base int64) {
	begins := &c.s.begins
	for i, next := range b[min(1, len(b)):] {
		key := uint16(b[i])<<8 | uint16(next)
		if !begins[key] {
			continue
		}
		if i >= limit {
			return
		}
		for _, n := range c.s.first[int(key)] {
			p := &c.s.patterns[n]
			if bytes.HasPrefix(b[i:], p.bytes) && base+int64(i) >= c.covered {
				c.add(p, base+int64(i))
				c.covered = base + int64(i+len(p.bytes))
				break // the other forms that begin here are parts of this one
			}
		}
	}
}

func (c *collector) add(p *pattern, at int64) {
	i := slices.IndexFunc(c.hits, func(h Hit) bool { return h.Part == p.marker.Part && h.Form == p.form })
	if i >= 0 {
		c.hits[i].Count++
		return
	}
	c.hits = append(c.hits, Hit{Part: p.marker.Part, Form: p.form, Where: c.where, What: c.what, At: at, Count: 1})
}
