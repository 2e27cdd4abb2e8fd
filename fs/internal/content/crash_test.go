package content

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
)

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
