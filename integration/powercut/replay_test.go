package powercut

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// mode says what becomes of the writes that no flush has made durable.
type mode string

const (
	inOrder   mode = "in order"     // all of them are there
	dropped   mode = "dropped"      // none is
	reordered mode = "reordered"    // some are, whole
	torn4096  mode = "torn at 4096" // of each, some pages are
	torn512   mode = "torn at 512"  // of each, some sectors are
)

// point is a moment at which the power goes.
type point struct {
	at  int // the number of events before
	how mode
}

// points chooses moments in a record: most of them just before a flush, where most writes are in danger.
func points(r *rand.Rand, events []event, how mode, n int) []point {
	var all []point
	for range n {
		at := 1 + r.IntN(len(events))
		if how != inOrder && r.IntN(4) > 0 {
			for at < len(events) && !events[at].flush() {
				at++
			}
		}
		all = append(all, point{at, how})
	}
	return all
}

// sorted is the order in which a replayer can make disks.
func sorted(all []point) []point {
	slices.SortStableFunc(all, func(a, b point) int { return a.at - b.at })
	return all
}

// replayer makes disks of moments that come one after the other.
type replayer struct {
	disk   []byte // with all writes up to the last flush
	events []event
	next   int // the first event that is not on it
	r      *rand.Rand
}

func newReplayer(rec *recording, seed uint64) *replayer {
	return &replayer{disk: bytes.Clone(rec.base), events: rec.events, r: rand.New(rand.NewPCG(seed, 1))}
}

// file makes a file of the disk as it may be at a moment.
func (p *replayer) file(t testing.TB, pt point) string {
	t.Helper()
	last := p.next
	for i := p.next; i < pt.at; i++ {
		if p.events[i].flush() {
			last = i
		}
	}
	for ; p.next < last; p.next++ {
		copy(p.disk[p.events[p.next].off:], p.events[p.next].data)
	}
	f, err := os.CreateTemp(harness.ImageDir(), "")
	must(t, err)
	defer func() { must(t, f.Close()) }()
	must(t, fill(f, p.disk))
	for _, e := range p.choose(p.events[p.next:pt.at], pt.how) {
		_, err := f.WriteAt(e.data, e.off)
		must(t, err)
	}
	return f.Name()
}

var zeros [page]byte

// fill writes what is not zero.
func fill(f *os.File, b []byte) error {
	if err := f.Truncate(int64(len(b))); err != nil {
		return err
	}
	for at := 0; at < len(b); {
		end := at
		for end < len(b) && !bytes.Equal(b[end:min(end+page, len(b))], zeros[:min(page, len(b)-end)]) {
			end += page
		}
		end = min(end, len(b))
		if end == at {
			at += page
			continue
		}
		if _, err := f.WriteAt(b[at:end], int64(at)); err != nil {
			return err
		}
		at = end
	}
	return nil
}

// writeSparse makes a file.
func writeSparse(path string, b []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(fill(f, b), f.Close())
}

// choose returns what is on the disk of writes that are not durable.
func (p *replayer) choose(pending []event, how mode) []event {
	var writes []event
	for _, e := range pending {
		if !e.flush() {
			writes = append(writes, e)
		}
	}
	switch how {
	case inOrder:
		return writes
	case dropped:
		return nil
	case torn4096:
		writes = pieces(writes, page)
	case torn512:
		writes = pieces(writes, 512)
	}
	if len(writes) == 0 {
		return nil
	}
	odd := p.r.IntN(len(writes))
	chance := []float64{-1, 0.1, 0.5, 0.9, 2}[p.r.IntN(5)]
	var out []event
	for i, e := range writes {
		switch {
		case chance < 0 && i == odd, chance > 1 && i != odd, chance > 0 && chance < 1 && p.r.Float64() < chance:
			out = append(out, e)
		}
	}
	return out
}

// pieces cuts writes at multiples of a size.
func pieces(writes []event, size int64) (all []event) {
	for _, e := range writes {
		for len(e.data) > 0 {
			n := min(int64(len(e.data)), size-e.off%size)
			all = append(all, event{e.off, e.data[:n]})
			e.off, e.data = e.off+n, e.data[n:]
		}
	}
	return all
}
