package parallel_test

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/parallel"
)

func TestPanic(t *testing.T) {
	for _, at := range []int{0, 99} { // in the caller's goroutine, in another one
		var others atomic.Int32
		got := func() (v any) {
			defer func() { v = recover() }()
			parallel.Ranges(100, 10, 4, func(from, to int) {
				if from <= at && at < to {
					panic("found")
				}
				others.Add(1)
			})
			return nil
		}()
		if s, _ := got.(string); !strings.HasPrefix(s, "found") || others.Load() != 3 {
			t.Errorf("a panic at %d came out as %v, after %d other calls", at, got, others.Load())
		}
	}
}

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
