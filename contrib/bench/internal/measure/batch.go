// Package measure runs batches of operations and takes their time, and counts what they cost others.
package measure

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/pattern"
)

// Sample is what one batch took. Times are for the batch as a whole unless said otherwise.
type Sample struct {
	Round     int     `json:"round"`
	Ops       int     `json:"ops"`
	Seconds   float64 `json:"seconds"`
	P50       float64 `json:"p50_us"`        // microseconds of an operation, median
	P99       float64 `json:"p99_us"`        // microseconds of an operation, 99th percentile
	DaemonCPU float64 `json:"daemon_cpu_us"` // microseconds of CPU per operation in the daemon of the target
	CallerCPU float64 `json:"caller_cpu_us"` // microseconds of CPU per operation in the caller, kernel time included
}

// Rate is operations per second.
func (s Sample) Rate() float64 { return float64(s.Ops) / s.Seconds }

// Batch is one batch to run: a pattern in a number of mailboxes at the same time.
type Batch struct {
	Pattern pattern.Pattern
	Boxes   []*pattern.Box
	Ops     int           // over all boxes together; each does at least one
	Seed    uint64        // same seed, same operations
	Daemon  int           // process whose CPU time counts as the daemon's, 0 for none
	Settle  func() error  // called before the clock starts: writes back what is dirty
	Drop    func() error  // called instead when the pattern is a cold one: drops all caches as well
	Around  func() func() // if not nil, called right before the first operation; what it returns, right after the last
}

// Run prepares, measures and checks the batch. A *WrongError comes with the sample if all operations were done and only the
// check found something, and with the zero sample if an operation failed.
func (b Batch) Run() (Sample, error) {
	perBox := max(1, b.Ops/len(b.Boxes))
	runs := make([]*pattern.Run, len(b.Boxes))
	if err := b.each(func(i int) (err error) {
		b.Boxes[i].Reseed(b.Seed + uint64(i))
		runs[i], err = b.Pattern.Start(b.Boxes[i], perBox)
		return err
	}); err != nil {
		return Sample{}, fmt.Errorf("prepare %s: %w", b.Pattern.Name, err)
	}
	if err := b.ready(runs); err != nil {
		return Sample{}, fmt.Errorf("warm up %s: %w", b.Pattern.Name, err)
	}
	sample, err := b.timed(runs, perBox)
	if err != nil {
		sample, err = Sample{}, &WrongError{"in an operation", err}
	}
	if ferr := b.each(func(i int) error { return runs[i].Finish() }); err == nil && ferr != nil {
		err = &WrongError{"in the check afterwards", ferr}
	}
	return sample, err
}

// WrongError says that a target did not do what was asked of it, or gave back something else than it was given.
type WrongError struct {
	When string
	Err  error
}

// Error implements error.
func (e *WrongError) Error() string { return e.When + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *WrongError) Unwrap() error { return e.Err }

// each calls do for all boxes at the same time.
func (b Batch) each(do func(i int) error) error {
	errs := make([]error, len(b.Boxes))
	var all sync.WaitGroup
	for i := range b.Boxes {
		all.Go(func() { errs[i] = do(i) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// ready brings caches into the state that the pattern asks for.
func (b Batch) ready(runs []*pattern.Run) error {
	if b.Pattern.Cold {
		return b.Drop()
	}
	if err := b.Settle(); err != nil {
		return err
	}
	return b.each(func(i int) error {
		for op := range b.Pattern.WarmOps {
			if err := runs[i].Op(op); err != nil {
				return err
			}
		}
		return nil
	})
}

// timed runs all operations. The garbage collector is off meanwhile, and there are more processors (in Go's sense) than
// workers, so that no worker waits for one after a system call that took long.
func (b Batch) timed(runs []*pattern.Run, perBox int) (Sample, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(len(runs) + 2))
	took := make([][]time.Duration, len(runs))
	for i := range took {
		took[i] = make([]time.Duration, perBox)
	}
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	if b.Around != nil {
		defer b.Around()()
	}
	daemon, caller := CPUTime(b.Daemon), CPUTime(self)
	begin := time.Now()
	err := b.each(func(i int) error {
		last := time.Now()
		for op := range perBox {
			if err := runs[i].Op(op); err != nil {
				return fmt.Errorf("operation %d of worker %d: %w", op, i, err)
			}
			now := time.Now()
			took[i][op] = now.Sub(last)
			last = now
		}
		return nil
	})
	s := NewSample(time.Since(begin), took)
	s.DaemonCPU = micros(CPUTime(b.Daemon)-daemon) / float64(s.Ops)
	s.CallerCPU = micros(CPUTime(self)-caller) / float64(s.Ops)
	return s, err
}

// NewSample makes a Sample of the times that operations took, worker by worker.
func NewSample(whole time.Duration, took [][]time.Duration) Sample {
	all := slices.Concat(took...)
	slices.Sort(all)
	s := Sample{Ops: len(all), Seconds: whole.Seconds()}
	if len(all) > 0 {
		s.P50, s.P99 = micros(percentile(all, 50)), micros(percentile(all, 99))
	}
	return s
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// percentile is the nearest-rank percentile of a sorted list that is not empty.
func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}
