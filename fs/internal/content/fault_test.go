package content

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
)

// change is one call on a file: a write of p at off, or a truncate to size when p is nil.
type change struct {
	name string
	p    []byte
	off  int64
	size int64
}

func (c change) do(f *File) (int, error) {
	if c.p == nil {
		return 0, f.Truncate(c.size)
	}
	return f.WriteAt(c.p, c.off)
}

// after is what the call makes of a plaintext.
func (c change) after(b []byte) []byte {
	if c.p == nil {
		return resized(bytes.Clone(b), c.size)
	}
	return written(b, c.p, c.off)
}

// outside reports whether the byte at i of the plaintext is none of those that the call may change.
func (c change) outside(i int64) bool {
	if c.p == nil {
		return i < c.size
	}
	return i < c.off || i >= c.off+int64(len(c.p))
}

func changes(size int64) []change {
	x := func(n int) []byte { return bytes.Repeat([]byte("x"), n) }
	list := []change{
		{name: "append a byte", p: x(1), off: size},
		{name: "append a lot", p: x(9000), off: size},
		{name: "write behind a gap", p: x(10), off: size + 5000},
		{name: "extend", size: size + 5000},
	}
	if size == 100 { // more than goes through one call
		list = append(list, change{name: "write far behind", p: x(10), off: size + 70*4096})
	}
	if size == 0 {
		return list
	}
	return append(list,
		change{name: "overwrite the first byte", p: x(1), off: 0},
		change{name: "overwrite the last byte", p: x(1), off: size - 1},
		change{name: "overwrite the middle and append", p: x(int(size)), off: size / 2},
		change{name: "overwrite all", p: x(int(size)), off: 0},
		change{name: "shrink by one", size: size - 1},
		change{name: "shrink to half", size: size/2 + 1},
		change{name: "shrink to one", size: 1},
		change{name: "empty", size: 0},
	)
}

// state is a file before the call that fails.
type state struct {
	name   string
	layout format.Layout
	size   int64
	synced bool // and so a write-once file must be converted
	reopen bool // and so nothing is known but what is stored
	torn   int  // zero blocks behind it, of an append that a crash undid
}

func states() []state {
	var out []state
	for name, l := range bothLayouts {
		for _, size := range []int64{0, 1, 100, 4010, 5000, 8076, 9000} {
			for _, how := range []struct {
				name           string
				synced, reopen bool
				torn           int
			}{{"new", false, false, 0}, {"synced", true, false, 0}, {"reopened", true, true, 0}, {"torn", true, true, 2}} {
				out = append(out, state{fmt.Sprintf("%s, %d bytes, %s", name, size, how.name), l, size, how.synced, how.reopen, how.torn})
			}
		}
	}
	return out
}

// make returns the file in this state over a recorder whose calls are counted from 1.
func (s state) make(t *testing.T, keys *testKeys) (*File, *recorder, []byte) {
	t.Helper()
	keys.layout = s.layout
	rec := &recorder{}
	f, err := Open(rec, 0, keys)
	if err != nil {
		t.Fatal(err)
	}
	want := newSource("fault", int(s.size)).bytes(int(s.size))
	if _, err := f.WriteAt(want, 0); err != nil {
		t.Fatal(err)
	}
	if s.synced {
		if err := f.Sync(false); err != nil {
			t.Fatal(err)
		}
	}
	if s.torn > 0 && (s.layout == format.Padded || format.Aligned(rec.size())) {
		_ = rec.Truncate(rec.size() + int64(s.torn*format.BlockSize))
	}
	if s.reopen {
		if f, err = Open(rec, rec.size(), keys); err != nil {
			t.Fatal(err)
		}
	}
	rec.calls = 0
	return f, rec, want
}

// TestFaults lets each lower call of each change fail in each way.
func TestFaults(t *testing.T) {
	t.Parallel()
	faults := map[string]fault{"nothing done": failNothing, "half done": failHalf, "all but one byte": failOneByte, "killed": failKill}
	for _, s := range states() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			keys := newKeys(t, s.layout)
			for _, c := range changes(s.size) {
				for name, how := range faults {
					for n := 1; failAt(t, s, c, keys, n, how, fmt.Sprintf("%s: %s, call %d fails, %s", s.name, c.name, n, name)); n++ {
					}
				}
			}
		})
	}
}

// failAt lets the n-th call fail; false if there were fewer.
func failAt(t *testing.T, s state, c change, keys *testKeys, n int, how fault, name string) bool {
	t.Helper()
	f, rec, old := s.make(t, keys)
	rec.failAt, rec.fault, rec.readFail = n, how, true
	stored, err := c.do(f)
	failed := rec.calls >= n
	rec.revive()
	if !failed {
		if err != nil {
			t.Errorf("%s: %v without a fault", name, err)
		}
		return false
	}
	if err == nil {
		// An error may be swallowed only where nothing depends on it: the result must be right then.
		checkAfter(t, name+", no error", f, c.after(old), nil, 0, change{})
		return true
	}
	if !errors.Is(err, errInjected) {
		t.Errorf("%s: the error is %v", name, err)
	}
	if how != failKill { // the process goes on with what it knows
		checkAfter(t, name, f, nil, old, stored, c)
	}
	if s.layout == format.WriteOnce && !s.synced && how == failKill {
		return true // nothing was acknowledged, and the layout promises nothing before that
	}
	again, err := Open(rec, rec.size(), keys)
	if err != nil {
		t.Errorf("%s: reopened: %v", name, err)
		return true
	}
	checkAfter(t, name+", reopened", again, nil, old, stored, c)
	if how == failKill {
		f = again
	}
	if _, err := c.do(f); err != nil {
		t.Errorf("%s: again: %v", name, err)
		return true
	}
	checkAfter(t, name+", again", f, c.after(old), nil, 0, change{})
	again, err = Open(rec, rec.size(), keys)
	if err != nil {
		t.Errorf("%s: again, reopened: %v", name, err)
		return true
	}
	checkAfter(t, name+", again, reopened", again, c.after(old), nil, 0, change{})
	return true
}

// checkAfter compares with want, or without one checks that call c, which has failed after some bytes, changed nothing
// of old that it was not to change.
func checkAfter(t *testing.T, name string, f *File, want, old []byte, done int, c change) {
	t.Helper()
	got := make([]byte, f.Size())
	if n, err := f.ReadAt(got, 0); err != nil {
		t.Errorf("%s: read %d of %d: %v", name, n, len(got), err)
		return
	}
	if old == nil {
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d, wrong from %d on", name, len(got), len(want), firstDifference(got, want))
		}
		return
	}
	end := int64(len(old))
	if c.p == nil {
		end = min(end, c.size)
	}
	if int64(len(got)) < end {
		t.Errorf("%s: only %d of %d bytes are left", name, len(got), end)
		return
	}
	for i := range end {
		if c.outside(i) && got[i] != old[i] {
			t.Errorf("%s: byte %d has changed", name, i)
			return
		}
	}
	if done > 0 && (int64(len(got)) < c.off+int64(done) || !bytes.Equal(got[c.off:c.off+int64(done)], c.p[:done])) {
		t.Errorf("%s: the %d bytes that were reported are not there", name, done)
	}
}
