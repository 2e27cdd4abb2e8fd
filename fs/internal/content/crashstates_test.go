package content

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
)

// A power cut leaves of what was not synced any part, in any order: each page of 4096 bytes is as it was at the last
// sync or as after any change since, and so is the size, apart from the pages. That is more than ext4 or XFS do, and
// less than a disk does that tears pages (FORMAT.md section 3 builds on aligned pages being written whole).

const pageSize = 4096

// pages is a stored file in pages.
type pages struct {
	size int64
	page map[int64][]byte // missing: zeros
}

func pagesOf(b []byte) pages {
	p := pages{int64(len(b)), map[int64][]byte{}}
	for at := 0; at < len(b); at += pageSize {
		p.page[int64(at/pageSize)] = resized(bytes.Clone(b[at:min(len(b), at+pageSize)]), pageSize)
	}
	return p
}

func (p pages) bytes() []byte {
	b := make([]byte, p.size)
	for no, page := range p.page {
		if at := no * pageSize; at < p.size {
			copy(b[at:], page)
		}
	}
	return b
}

// apply does a change and returns the pages that it touched.
func (p *pages) apply(o op) (touched []int64) {
	b := p.bytes()
	old := p.size
	switch o.kind {
	case lowWrite:
		b = resized(b, max(old, o.off+int64(len(o.data))))
		copy(b[o.off:], o.data)
		for at := o.off / pageSize; at*pageSize < o.off+int64(len(o.data)); at++ {
			touched = append(touched, at)
		}
	case lowTruncate:
		b = resized(b, o.size)
		for at := min(old, o.size) / pageSize; at*pageSize < max(old, o.size); at++ {
			touched = append(touched, at)
		}
	default:
		return nil
	}
	*p = pagesOf(b)
	return touched
}

// versions are the states that a power cut may leave.
type versions struct {
	sizes []int64
	page  map[int64][][]byte // the first is the durable one
	base  pages
}

func (p pages) versions(pending []op) versions {
	v := versions{sizes: []int64{p.size}, page: map[int64][][]byte{}, base: p}
	now := pagesOf(p.bytes())
	for _, o := range pending {
		for _, no := range now.apply(o) {
			if len(v.page[no]) == 0 {
				v.page[no] = [][]byte{p.page[no]}
			}
			v.page[no] = append(v.page[no], now.page[no])
		}
		if !slices.Contains(v.sizes, now.size) {
			v.sizes = append(v.sizes, now.size)
		}
	}
	return v
}

// each calls f with the states: all of them if they are few, else the outer ones and some by chance.
func (v versions) each(r *rand.Rand, f func([]byte)) {
	nos := make([]int64, 0, len(v.page))
	total := len(v.sizes)
	for no, list := range v.page {
		nos = append(nos, no)
		total = min(total*len(list), 1<<20)
	}
	slices.Sort(nos)
	state := func(pick func(no int64, n int) int, size int64) {
		s := pages{size, map[int64][]byte{}}
		for no, page := range v.base.page {
			s.page[no] = page
		}
		for _, no := range nos {
			s.page[no] = v.page[no][pick(no, len(v.page[no]))]
		}
		f(s.bytes())
	}
	const few = 32
	if total <= few {
		for i := range total {
			at := i / len(v.sizes)
			state(func(_ int64, n int) int {
				k := at % n
				at /= n
				return k
			}, v.sizes[i%len(v.sizes)])
		}
		return
	}
	for _, size := range v.sizes {
		state(func(int64, int) int { return 0 }, size)
		state(func(_ int64, n int) int { return n - 1 }, size)
	}
	for range few {
		odd := nos[r.IntN(len(nos))]
		late := r.IntN(3)
		state(func(no int64, n int) int {
			switch {
			case late == 0 && no == odd: // everything but one page
				return 0
			case late == 0:
				return n - 1
			case late == 1 && no == odd: // one page alone
				return n - 1
			case late == 1:
				return 0
			}
			return r.IntN(n)
		}, v.sizes[r.IntN(len(v.sizes))])
	}
}

// promise is what must be readable after a power cut.
type promise struct {
	content []byte // acknowledged
	limit   int    // of it, what no later truncate may have taken
	later   []op   // writes since
}

func (p *promise) note(o op) {
	switch o.kind {
	case acked:
		*p = promise{content: o.data, limit: len(o.data)}
	case askTruncate:
		p.limit = min(p.limit, int(o.size))
	case askWrite:
		p.later = append(p.later, o)
	}
}

// broken returns what is wrong with a stored state, or "".
func (p *promise) broken(stored []byte, keys Keys) string {
	f, err := Open(&memLower{b: stored}, int64(len(stored)), keys)
	if err != nil {
		return fmt.Sprintf("does not open: %v", err)
	}
	if f.Size() < int64(p.limit) {
		return fmt.Sprintf("has %d bytes, %d were acknowledged", f.Size(), p.limit)
	}
	got := make([]byte, p.limit)
	if n, err := f.ReadAt(got, 0); err != nil {
		return fmt.Sprintf("only %d of %d acknowledged bytes can be read: %v", n, p.limit, err)
	}
	for i := range got {
		if got[i] != p.content[i] && !p.mayBe(i, got[i]) {
			return fmt.Sprintf("byte %d of %d acknowledged ones is %#x, was %#x", i, p.limit, got[i], p.content[i])
		}
	}
	return ""
}

func (p *promise) mayBe(at int, b byte) bool {
	for _, o := range p.later {
		if i := int64(at) - o.off; i >= 0 && i < int64(len(o.data)) && o.data[i] == b {
			return true
		}
	}
	return false
}

// cut replays every prefix of what low has recorded and every state that a power cut may leave after it, and returns
// the first violations.
func cut(low *recorder, keys Keys, r *rand.Rand) (broken []string, states int) {
	base := pagesOf(nil)
	var pending []op
	var p promise
	for i := 0; i <= len(low.ops); i++ {
		if p.limit > 0 { // else nothing was promised
			base.versions(pending).each(r, func(b []byte) {
				states++
				if s := p.broken(b, keys); s != "" && len(broken) < 10 {
					broken = append(broken, fmt.Sprintf("after change %d: file of %d stored bytes %s", i, len(b), s))
				}
			})
		}
		if i == len(low.ops) || len(broken) > 0 {
			return broken, states
		}
		switch o := low.ops[i]; o.kind {
		case lowWrite, lowTruncate:
			pending = append(pending, o)
		case lowSync:
			for _, o := range pending {
				base.apply(o)
			}
			pending = nil
		default:
			p.note(o)
		}
	}
	return broken, states
}
