package measure

import (
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/pattern"
)

// batch has operations that take a known time.
func batch(t *testing.T, workers, ops int, op func(i int) error) (Batch, *atomic.Int64) {
	t.Helper()
	var finished atomic.Int64
	b := Batch{
		Pattern: pattern.Pattern{
			Name: "test", WarmOps: 3,
			Start: func(*pattern.Box, int) (*pattern.Run, error) {
				return &pattern.Run{Op: op, Finish: func() error { finished.Add(1); return nil }}, nil
			},
		},
		Ops: ops, Settle: func() error { return nil }, Daemon: os.Getpid(),
	}
	for range workers {
		box, err := pattern.NewBox(t.TempDir(), 1)
		if err != nil {
			t.Fatal(err)
		}
		b.Boxes = append(b.Boxes, box)
	}
	return b, &finished
}

func TestBatch(t *testing.T) {
	var calls atomic.Int64
	spin := func(i int) error {
		calls.Add(1)
		for begin := time.Now(); time.Since(begin) < time.Millisecond; {
			continue // use CPU time, not only time
		}
		return nil
	}
	b, finished := batch(t, 2, 20, spin)
	var around []string
	b.Around = func() func() {
		around = append(around, "begin")
		return func() { around = append(around, "end") }
	}
	s, err := b.Run()
	if err != nil {
		t.Fatal(err)
	}
	if s.Ops != 20 || calls.Load() != 2*3+20 || finished.Load() != 2 || len(around) != 2 {
		t.Errorf("%d operations counted, %d done, %d finished, around %v", s.Ops, calls.Load(), finished.Load(), around)
	}
	if s.P50 < 1000 || s.P99 < s.P50 || s.Seconds < 0.010 {
		t.Errorf("too fast to be true: %+v", s)
	}
	// Two workers share the CPUs with whatever else runs: of 1 ms of time each uses some.
	if s.CallerCPU < 50 || s.DaemonCPU < 50 {
		t.Errorf("CPU time is missing: %+v", s)
	}
}

func TestBatchFails(t *testing.T) {
	want := errors.New("broken")
	b, _ := batch(t, 2, 20, func(i int) error {
		if i == 7 {
			return want
		}
		return nil
	})
	if _, err := b.Run(); !errors.Is(err, want) {
		t.Errorf("got error %v, want %v", err, want)
	}
}

func TestPercentile(t *testing.T) {
	list := func(n int) []time.Duration {
		var all []time.Duration
		for i := range n {
			all = append(all, time.Duration(i+1))
		}
		return all
	}
	for _, test := range []struct{ n, p, want int }{{1, 50, 1}, {1, 99, 1}, {2, 50, 1}, {100, 50, 50}, {100, 99, 99}, {1000, 99, 990}} {
		if got := percentile(list(test.n), test.p); got != time.Duration(test.want) {
			t.Errorf("percentile %d of 1..%d is %d, want %d", test.p, test.n, got, test.want)
		}
	}
}
