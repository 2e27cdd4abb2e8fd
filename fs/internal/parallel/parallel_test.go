package parallel_test

import (
	"sync/atomic"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/parallel"
)

func TestRanges(t *testing.T) {
	for _, c := range []struct{ n, least, ways, calls int }{
		{0, 1, 4, 1}, {1, 1, 4, 1}, {7, 1, 4, 4}, {31, 16, 2, 1}, {32, 16, 2, 2}, {100, 30, 8, 3},
	} {
		seen := make([]atomic.Int32, c.n)
		var calls atomic.Int32
		parallel.Ranges(c.n, c.least, c.ways, func(from, to int) {
			calls.Add(1)
			for i := from; i < to; i++ {
				seen[i].Add(1)
			}
		})
		if int(calls.Load()) != c.calls {
			t.Errorf("%+v: %d calls", c, calls.Load())
		}
		for i := range seen {
			if seen[i].Load() != 1 {
				t.Errorf("%+v: number %d was seen %d times", c, i, seen[i].Load())
			}
		}
	}
}
