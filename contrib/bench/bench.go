package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/measure"
	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/pattern"
	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/report"
	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/target"
)

// bench runs patterns on targets, interleaved.
type bench struct {
	lower    string // directory on the filesystem beneath all targets
	targets  []*target.Target
	boxes    map[*target.Target][]*pattern.Box
	workers  []int // numbers of workers to measure with
	rounds   int
	budget   time.Duration   // of one batch
	tracer   *measure.Tracer // nil: do not count requests
	progress io.Writer
}

// prepare makes the mailboxes of all workers on all targets.
func (b *bench) prepare() error {
	b.boxes = map[*target.Target][]*pattern.Box{}
	for _, t := range b.targets {
		for i := range slices.Max(b.workers) {
			home, err := t.Home(i)
			if err != nil {
				return err
			}
			box, err := pattern.NewBox(home, uint64(i))
			if err != nil {
				return err
			}
			b.boxes[t] = append(b.boxes[t], box)
		}
	}
	return nil
}

// run measures one pattern with all numbers of workers that it is meant for.
func (b *bench) run(p pattern.Pattern) ([]report.Series, error) {
	var all []report.Series
	for _, workers := range b.workers {
		if !slices.Contains(p.Workers, workers) {
			continue
		}
		series, err := b.interleaved(p, workers)
		if err != nil {
			return nil, err
		}
		all = append(all, series...)
	}
	if b.tracer != nil {
		if err := b.count(p, all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// interleaved measures round by round, all targets in each round, each round beginning with another one.
func (b *bench) interleaved(p pattern.Pattern, workers int) ([]report.Series, error) {
	var series []report.Series
	var targets []*target.Target
	var ops []int
	for _, t := range b.targets {
		if t.DeliverOnly && !p.Deliver {
			continue
		}
		n, err := b.calibrate(p, t, workers)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name, err)
		}
		targets, ops = append(targets, t), append(ops, n)
		series = append(series, report.Series{Pattern: p.Name, Target: t.Name, Workers: workers})
	}
	for round := range b.rounds {
		for i := range targets {
			at := (i + round) % len(targets)
			sample, err := b.batch(p, targets[at], workers, ops[at], uint64(round+1)).Run()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", targets[at].Name, err)
			}
			sample.Round = round
			series[at].Samples = append(series[at].Samples, sample)
		}
	}
	for i := range series {
		rate := series[i].Of(measure.Sample.Rate)
		fmt.Fprintf(b.progress, "%-18s %2d  %-20s %10.0f/s (%.0f–%.0f), %d operations a round\n",
			p.Name, workers, series[i].Target, rate.Median, rate.Min, rate.Max, ops[i])
	}
	return series, nil
}

// batch describes one batch on one target.
func (b *bench) batch(p pattern.Pattern, t *target.Target, workers, ops int, seed uint64) measure.Batch {
	return measure.Batch{
		Pattern: p, Boxes: b.boxes[t][:workers], Ops: ops, Seed: seed << 8, Daemon: t.Daemon,
		Settle: func() error { return measure.Settle(b.lower) },
		Drop:   func() error { return measure.DropCaches(b.lower) },
	}
}

// calibrate finds how many operations fit into the time of a batch, and brings everything into its usual state. It tries
// ever longer batches, as a short one says little about a fast target.
func (b *bench) calibrate(p pattern.Pattern, t *target.Target, workers int) (int, error) {
	least, most := max(p.MinOps, workers), max(p.MaxOps, workers)
	for ops := least; ; {
		sample, err := b.batch(p, t, workers, ops, 0).Run()
		if err != nil {
			return 0, err
		}
		fit := min(max(int(sample.Rate()*b.budget.Seconds()), least), most)
		if fit <= 4*ops || sample.Seconds > b.budget.Seconds()/4 {
			return fit, nil
		}
		ops = min(fit, 10*ops)
	}
}

// count runs some operations of the pattern once more, to count the FUSE requests that they make.
func (b *bench) count(p pattern.Pattern, series []report.Series) error {
	const most = 500 // operations
	for _, t := range b.targets {
		at := slices.IndexFunc(series, func(s report.Series) bool { return s.Target == t.Name && s.Workers == 1 })
		if at < 0 || !t.IsFUSE() {
			continue
		}
		batch := b.batch(p, t, 1, min(series[at].Samples[0].Ops, most), 1)
		var counts map[string]int
		var err error
		batch.Around = func() func() {
			stop, serr := b.tracer.Start(t.Device)
			if serr != nil {
				err = serr
				return func() {}
			}
			return func() { counts, err = stop() }
		}
		sample, rerr := batch.Run()
		if rerr != nil || err != nil {
			return fmt.Errorf("%s: count requests: %w", t.Name, firstError(rerr, err))
		}
		series[at].Requests = map[string]float64{}
		for name, n := range counts {
			series[at].Requests[name] = float64(n) / float64(sample.Ops)
		}
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
