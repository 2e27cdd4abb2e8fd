package content

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
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

// marked is a file over a recorder; each call leaves its mark.
type marked struct {
	*model
	rec *recorder
}

func newMarked(t testing.TB, keys Keys) *marked {
	rec := &recorder{}
	return &marked{newModel(t, rec, keys), rec}
}

func (m *marked) write(p []byte, off int64) error {
	m.note("write %d at %d", len(p), off)
	if size := int64(len(m.want)); off > size { // what lies between becomes zero
		m.rec.mark(op{kind: askWrite, off: size, data: make([]byte, off-size)})
	}
	m.rec.mark(op{kind: askWrite, off: off, data: bytes.Clone(p)})
	_, err := m.f.WriteAt(p, off)
	if err == nil {
		m.want = written(m.want, p, off)
	}
	return err
}

func (m *marked) truncate(size int64) error {
	m.note("truncate to %d", size)
	m.rec.mark(op{kind: askTruncate, size: size})
	err := m.f.Truncate(size)
	if err == nil {
		m.want = resized(bytes.Clone(m.want), size)
	}
	return err
}

func (m *marked) sync() error {
	m.note("sync")
	err := m.f.Sync(false)
	if err == nil {
		m.rec.mark(op{kind: acked, data: bytes.Clone(m.want)})
	}
	return err
}

func (m *marked) step(r source) error {
	size := int64(len(m.want))
	switch r.IntN(10) {
	case 0, 1, 2:
		return m.write(r.bytes(1+r.IntN(5000)), size)
	case 3, 4:
		return m.write(r.bytes(1+r.IntN(6000)), r.offset(size))
	case 5:
		return m.write(r.bytes(1+r.IntN(50)), size+r.offset(5000))
	case 6:
		return m.truncate(r.offset(size + 3000))
	case 7:
		return m.truncate(r.offset(size))
	case 8:
		m.note("reopen") // without a sync: what is idle is closed
		m.reopen()
		return nil
	}
	return m.sync()
}

// script does random steps; with kills, some are ended in the middle by the end of the process, and a new one goes on.
func (m *marked) script(r source, steps int, kills bool) {
	for range steps {
		if kills && r.IntN(4) == 0 {
			m.rec.failAt, m.rec.fault = m.rec.calls+1+r.IntN(5), failKill
		}
		err := m.step(r)
		if err == nil && !m.rec.dead {
			m.rec.failAt = 0
			continue
		}
		m.note("killed")
		m.rec.revive()
		if !m.takeUp() {
			return
		}
	}
}

// takeUp opens the file in a new process; false if what was never acknowledged is damaged.
func (m *marked) takeUp() bool {
	f, err := Open(m.low, m.low.size(), m.keys)
	if err != nil {
		return false
	}
	got := make([]byte, f.Size())
	if _, err := f.ReadAt(got, 0); err != nil {
		return false
	}
	m.f, m.want = f, got
	return true
}

var bothLayouts = map[string]format.Layout{"write-once": format.WriteOnce, "padded": format.Padded}

// TestPowerCut does random steps and cuts the power after each change of the lower file.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	for name, l := range bothLayouts {
		for _, kills := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, kills %v", name, kills), func(t *testing.T) {
				t.Parallel()
				total := 0
				for run := range 40 {
					keys := newKeys(t, l)
					m := newMarked(t, keys)
					r := newSource("power cut "+name, run)
					m.script(r, 14, kills)
					broken, states := cut(m.rec, keys, r.Rand)
					total += states
					if len(broken) > 0 {
						t.Fatalf("run %d, %v: %v", run, m.log, broken)
					}
				}
				if total < 3000 {
					t.Errorf("only %d states replayed", total)
				}
			})
		}
	}
}

// conversions are files in the write-once layout that were acknowledged, and what is then done to them.
func conversions(t *testing.T, f func(name string, m *marked, change func() error)) {
	for _, size := range []int64{1, 100, 4009, 4010, 4011, 5000, 8076, 9000, 12142} {
		for _, tt := range []struct {
			name string
			do   func(*marked) error
		}{
			{"append a byte", func(m *marked) error { return m.write([]byte("x"), size) }},
			{"append a lot", func(m *marked) error { return m.write(bytes.Repeat([]byte("x"), 9000), size) }},
			{"write behind a gap", func(m *marked) error { return m.write([]byte("x"), size+5000) }},
			{"overwrite the first byte", func(m *marked) error { return m.write([]byte("x"), 0) }},
			{"overwrite the last byte", func(m *marked) error { return m.write([]byte("x"), size-1) }},
			{"extend", func(m *marked) error { return m.truncate(size + 4100) }},
			{"shrink", func(m *marked) error { return m.truncate(size/2 + 1) }},
		} {
			m := newMarked(t, newKeys(t, format.WriteOnce))
			if err := m.write(newSource("converted", int(size)).bytes(int(size)), 0); err != nil {
				t.Fatal(err)
			}
			if err := m.sync(); err != nil {
				t.Fatal(err)
			}
			f(fmt.Sprintf("%d bytes, %s", size, tt.name), m, func() error { return tt.do(m) })
		}
	}
}

// TestPowerCutConversion cuts the power at every change of C10.
func TestPowerCutConversion(t *testing.T) {
	t.Parallel()
	conversions(t, func(name string, m *marked, change func() error) {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if err := m.sync(); err != nil {
			t.Fatal(err)
		}
		r := newSource(name, 0)
		if broken, _ := cut(m.rec, m.keys, r.Rand); len(broken) > 0 {
			t.Errorf("%s: %v", name, broken)
		}
	})
}

// TestPowerCutAfterKill ends the process at every change of C10; a new one does the change again, and then the power
// is cut at every change of that.
func TestPowerCutAfterKill(t *testing.T) {
	t.Parallel()
	for at := 1; ; at++ {
		killed := false
		conversions(t, func(name string, m *marked, change func() error) {
			m.rec.failAt, m.rec.fault = m.rec.calls+at, failKill
			if err := change(); err == nil {
				return
			}
			killed = true
			m.rec.revive()
			if !m.takeUp() {
				t.Errorf("%s, killed at call %d: does not open", name, at)
				return
			}
			if err := change(); err != nil {
				t.Fatal(err)
			}
			r := newSource(name, at)
			if broken, _ := cut(m.rec, m.keys, r.Rand); len(broken) > 0 {
				t.Errorf("%s, killed at call %d: %v", name, at, broken)
			}
		})
		if !killed {
			return
		}
	}
}

// TestPowerCutWithoutSync is the negative control: when syncs do nothing, the harness must find what is lost.
func TestPowerCutWithoutSync(t *testing.T) {
	t.Parallel()
	for name, l := range bothLayouts {
		found := 0
		const runs = 20
		for run := range runs {
			m := newMarked(t, newKeys(t, l))
			m.rec.noSync = true
			r := newSource("power cut "+name, run)
			m.script(r, 14, false)
			if broken, _ := cut(m.rec, m.keys, r.Rand); len(broken) > 0 {
				found++
			}
		}
		if found < runs/2 {
			t.Errorf("%s: lost data found in %d of %d runs", name, found, runs)
		}
	}
	found, all := 0, 0
	conversions(t, func(_ string, m *marked, change func() error) {
		// The first sync counts: only those of the conversion are lost.
		m.rec.noSync = true
		if err := change(); err != nil {
			t.Fatal(err)
		}
		all++
		r := newSource("control", all)
		if broken, _ := cut(m.rec, m.keys, r.Rand); len(broken) > 0 {
			found++
		}
	})
	if found < all/2 {
		t.Errorf("conversion: lost data found in %d of %d changes", found, all)
	}
}
