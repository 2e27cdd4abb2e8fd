package hostile

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const block = 4096

// change is one thing that was done to the store.
type change struct {
	kind    string
	f       *file
	instead []*file // what was put in its place
	detail  string
	before  []byte // what was stored
}

func (c change) String() string {
	return fmt.Sprintf("%q done to %.60s (%.40s…): %.100s", c.kind, c.f.view, c.f.store, c.detail)
}

// mutator changes a store at random.
type mutator struct {
	*rand.Rand
	p    *population
	used map[*file]bool
}

// kind is one way to change an entry of the store, and what may come of it: by layout, write-once and padded.
type kind struct {
	name         string
	do           func(m *mutator, c *change) bool // false: it does not suit this file
	once, padded []outcome
}

// kinds is the table of what is detected and what is not. The README repeats it in words.
func kinds() []kind {
	only := func(o ...outcome) []outcome { return o }
	return []kind{
		{"flip bits", flipBits, only(refusal), only(refusal)},
		{"cut the end off", cut, only(refusal), only(refusal, shorter)},
		{"cut to nothing", cutAll, only(empty), only(empty)},
		{"append bytes", appendBytes, only(refusal), only(refusal)},
		{"append zeros", appendZeros, only(refusal, same), only(refusal, same)},
		{"zero a range", zeroRange, only(refusal, empty), only(refusal, shorter, empty)},
		{"swap blocks", swapBlocks, only(refusal), only(refusal)},
		{"take a block from another file", spliceBlock, only(refusal), only(refusal)},
		{"put an older block back", olderBlock, nil, only(refusal, mixed, older, shorter, same)},
		{"put an older version back", olderFile, only(older), only(older)},
		{"swap with another file of the user", swapFiles, only(another), only(another)},
		{"put another user's private file in", foreignPrivate, only(refusal), only(refusal)},
		{"put another user's index in", foreignMeta, only(another), only(another)},
		{"change the header's key to another user's", foreignKeyID, only(refusal), only(refusal)},
		{"write clear text", forge, only(refusal), only(refusal)},
		{"delete the entry", remove, only(gone), only(gone)},
		{"change the stored name", renameDamaged, only(gone), only(gone)},
		// Who knows the name finds the file, who lists the folder finds a damaged entry.
		{"change the side entry of a long name", damageSide, only(gone, same), only(gone, same)},
		{"put a directory there", makeDir, only(refusal), only(refusal)},
		{"put a pipe there", makePipe, only(refusal), only(refusal)},
		{"put a symbolic link there", makeLink, only(refusal), only(refusal)},
		{"copy it to another user", copyToOther, only(same), only(same)},
	}
}

// one changes, in the way of k, one file that nothing was done to yet. It looks for one that suits k, and gives up after
// some tries.
func (m *mutator) one(k kind) (change, bool) {
	const tries = 50
	for range tries {
		f := m.pick(func(f *file) bool { return f.user != bystander && !m.used[f] })
		if f == nil {
			break
		}
		c := change{kind: k.name, f: f, before: f.now().stored}
		if k.do(m, &c) {
			m.used[f] = true
			return c, true
		}
	}
	return change{}, false
}

func (m *mutator) pick(ok func(*file) bool) *file {
	fit := slices.DeleteFunc(slices.Clone(m.p.files), func(f *file) bool { return !ok(f) })
	if len(fit) == 0 {
		return nil
	}
	return fit[m.IntN(len(fit))]
}

// write stores other bytes; false if they are the same, or those of some version: that is another kind of change.
func (m *mutator) write(c *change, b []byte, detail string, args ...any) bool {
	for _, v := range c.f.versions {
		if bytes.Equal(b, v.stored) {
			return false
		}
	}
	c.detail = fmt.Sprintf(detail, args...)
	m.store(c.f, b)
	return true
}

func (m *mutator) store(f *file, b []byte) {
	if err := os.WriteFile(m.p.path(f), b, 0o600); err != nil {
		panic(err)
	}
}

func flipBits(m *mutator, c *change) bool {
	b := bytes.Clone(c.before)
	n := 1 + m.IntN(4)
	var where []int
	for range n {
		at := m.IntN(len(b))
		if m.IntN(3) == 0 {
			at = m.IntN(min(len(b), 72)) // headers and fields
		}
		b[at] ^= 1 << m.IntN(8)
		where = append(where, at)
	}
	return m.write(c, b, "at %d", where)
}

func cut(m *mutator, c *change) bool {
	n := 1 + m.IntN(len(c.before)-1)
	if m.IntN(2) == 0 {
		n = n / block * block
	}
	return n > 0 && m.write(c, c.before[:n], "%d of %d", n, len(c.before))
}

func cutAll(m *mutator, c *change) bool { return m.write(c, nil, "0 of %d", len(c.before)) }

func appendBytes(m *mutator, c *change) bool {
	more := make([]byte, 1+m.IntN(2*block))
	for i := range more {
		more[i] = byte(1 + m.IntN(255))
	}
	return m.write(c, append(bytes.Clone(c.before), more...), "%d", len(more))
}

func appendZeros(m *mutator, c *change) bool {
	n := 1 + m.IntN(3*block)
	switch m.IntN(3) {
	case 0:
		n = block - len(c.before)%block
	case 1:
		n = block - len(c.before)%block + block*m.IntN(3)
	}
	return m.write(c, append(bytes.Clone(c.before), make([]byte, n)...), "%d behind %d", n, len(c.before))
}

func zeroRange(m *mutator, c *change) bool {
	b := bytes.Clone(c.before)
	from := m.IntN(len(b))
	n := 1 + m.IntN(len(b)-from)
	if m.IntN(2) == 0 {
		from, n = from/block*block, (n+block-1)/block*block
	}
	clear(b[from:min(from+n, len(b))])
	return m.write(c, b, "%d from %d of %d", n, from, len(b))
}

func swapBlocks(m *mutator, c *change) bool {
	n := len(c.before) / block
	if n < 2 {
		return false
	}
	b := bytes.Clone(c.before)
	i, j := m.IntN(n), m.IntN(n)
	copy(b[i*block:], c.before[j*block:(j+1)*block])
	copy(b[j*block:], c.before[i*block:(i+1)*block])
	return m.write(c, b, "%d and %d", i, j)
}

func spliceBlock(m *mutator, c *change) bool {
	o := m.pick(func(o *file) bool { return o != c.f && len(o.now().stored) >= block })
	n := min(len(c.before), len(o.now().stored)) / block
	if n == 0 {
		return false
	}
	b, i := bytes.Clone(c.before), m.IntN(n)
	from := 0
	if i == 0 && m.IntN(2) == 0 {
		from = 56 // all of block 0 but the header
	}
	copy(b[i*block+from:(i+1)*block], o.now().stored[i*block+from:])
	if i == 0 && from == 0 && len(b) <= block {
		return false // the whole file
	}
	return m.write(c, b, "block %d of %s", i, o.view)
}

func olderBlock(m *mutator, c *change) bool {
	if c.f.writer {
		return false
	}
	old := c.f.versions[m.IntN(len(c.f.versions)-1)].stored
	b := bytes.Clone(c.before)
	i := m.IntN(min(len(old), len(b)) / block)
	copy(b[i*block:(i+1)*block], old[i*block:])
	return m.write(c, b, "block %d", i)
}

func olderFile(m *mutator, c *change) bool {
	v := m.IntN(len(c.f.versions) - 1)
	if bytes.Equal(c.f.versions[v].plain, c.f.now().plain) {
		return false
	}
	m.store(c.f, c.f.versions[v].stored)
	c.detail = fmt.Sprint("version ", v)
	return true
}

func (m *mutator) instead(c *change, o *file) bool {
	if o == nil {
		return false
	}
	m.store(c.f, o.now().stored)
	c.instead, c.detail = []*file{o}, o.view
	return true
}

func swapFiles(m *mutator, c *change) bool {
	return m.instead(c, m.pick(func(o *file) bool { return o != c.f && o.user == c.f.user }))
}

func foreignPrivate(m *mutator, c *change) bool {
	return m.instead(c, m.pick(func(o *file) bool { return o.user != c.f.user && o.private }))
}

func foreignMeta(m *mutator, c *change) bool {
	return m.instead(c, m.pick(func(o *file) bool { return o.user != c.f.user && !o.private }))
}

func foreignKeyID(m *mutator, c *change) bool {
	o := m.pick(func(o *file) bool { return o.user != c.f.user && o.private })
	b := bytes.Clone(c.before)
	copy(b[8:24], o.now().stored[8:24])
	return m.write(c, b, "that of %s", o.user)
}

func forge(m *mutator, c *change) bool {
	return m.write(c, []byte("From: forger@example.net\nSubject: forged\n\nforged\n"), "")
}

func remove(m *mutator, c *change) bool { return os.Remove(m.p.path(c.f)) == nil }

func renameDamaged(m *mutator, c *change) bool {
	dir, name := filepath.Split(m.p.path(c.f))
	at := len("mc1=") + m.IntN(len(name)-len("mc1="))
	with := byte('A' + m.IntN(26))
	c.detail = name[:at] + string(with) + name[at+1:]
	return name[at] != with && os.Rename(dir+name, dir+c.detail) == nil
}

func damageSide(m *mutator, c *change) bool {
	if c.f.side == "" {
		return false
	}
	path := filepath.Join(m.p.s.Store, c.f.side)
	b, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	switch m.IntN(4) {
	case 0:
		c.detail = "removed"
		return os.Remove(path) == nil
	case 1:
		b, c.detail = b[:m.IntN(len(b))], "cut"
	case 2:
		b[m.IntN(len(b))] ^= 1 << m.IntN(8)
		c.detail = "a bit"
	case 3:
		o := m.pick(func(o *file) bool { return o.side != "" && filepath.Base(o.side) != filepath.Base(c.f.side) })
		if b, err = os.ReadFile(filepath.Join(m.p.copy, o.side)); err != nil {
			panic(err)
		}
		c.detail = "that of " + o.view
	}
	return os.WriteFile(path, b, 0o600) == nil
}

// special puts something else in the place of a file.
func (m *mutator) special(c *change, do func(path string) error) bool {
	path := m.p.path(c.f)
	if err := os.Remove(path); err != nil {
		panic(err)
	}
	if err := do(path); err != nil {
		panic(err)
	}
	return true
}

func makeDir(m *mutator, c *change) bool {
	return m.special(c, func(path string) error { return os.Mkdir(path, 0o755) })
}

func makePipe(m *mutator, c *change) bool { return m.special(c, mkfifo) }

func makeLink(m *mutator, c *change) bool {
	target := "/etc/passwd"
	if m.IntN(2) == 0 {
		target = strings.Repeat("x", 1+m.IntN(3000))
	}
	c.detail = target[:min(len(target), 20)]
	return m.special(c, func(path string) error { return os.Symlink(target, path) })
}

// copyToOther copies the entry into the same place of another user, where nothing may come of it that anybody can read;
// readCopies looks at that.
func copyToOther(m *mutator, c *change) bool {
	o := m.pick(func(o *file) bool { return o.user != c.f.user && o.user != bystander })
	to := filepath.Join(filepath.Dir(m.p.path(o)), filepath.Base(c.f.store))
	c.detail = filepath.Join(filepath.Dir(o.view), filepath.Base(c.f.view))
	if m.p.byView[c.detail] != nil || c.f.side != "" || !c.f.private {
		return false
	}
	return os.WriteFile(to, c.before, 0o600) == nil
}
