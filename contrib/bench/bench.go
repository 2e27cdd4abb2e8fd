package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
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

// contender is a target in the rounds of one pattern.
type contender struct {
	target *target.Target
	series report.Series
	ops    int // of a batch
}

// interleaved measures round by round, all targets in each round, each round beginning with another one.
func (b *bench) interleaved(p pattern.Pattern, workers int) ([]report.Series, error) {
	var all []*contender
	for _, t := range b.targets {
		if t.DeliverOnly && !p.Deliver {
			continue
		}
		c := &contender{target: t, series: report.Series{Pattern: p.Name, Target: t.Name, Workers: workers}}
		if err := b.calibrate(p, c); err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name, err)
		}
		all = append(all, c)
	}
	for round := range b.rounds {
		for i := range all {
			c := all[(i+round)%len(all)]
			sample, err := b.sample(b.batch(p, c.target, workers, c.ops, uint64(round+1)), &c.series)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.target.Name, err)
			}
			if sample.Ops > 0 {
				sample.Round = round
				c.series.Samples = append(c.series.Samples, sample)
			}
		}
	}
	var series []report.Series
	for _, c := range all {
		rate := c.series.Of(measure.Sample.Rate)
		fmt.Fprintf(b.progress, "%-18s %2d  %-20s %10.0f/s (%.0f–%.0f), %d operations a round\n",
			p.Name, workers, c.target.Name, rate.Median, rate.Min, rate.Max, c.ops)
		series = append(series, c.series)
	}
	return series, nil
}

// sample runs a batch. What the target does wrong is noted in its series and is no error: that a peer fails is a result
// too. The sample has no operations if they could not be done.
func (b *bench) sample(batch measure.Batch, series *report.Series) (measure.Sample, error) {
	sample, err := batch.Run()
	var wrong *measure.WrongError
	if errors.As(err, &wrong) {
		if series.Wrong == "" {
			defer func() { fmt.Fprintf(b.progress, "%s: %s: WRONG: %s\n", series.Pattern, series.Target, series.Wrong) }()
		}
		series.Wrong, _, _ = strings.Cut(wrong.Error(), "\n") // the first of those of several workers
		err = nil
	}
	return sample, err
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
func (b *bench) calibrate(p pattern.Pattern, c *contender) error {
	least, most := max(p.MinOps, c.series.Workers), max(p.MaxOps, c.series.Workers)
	for c.ops = least; ; {
		sample, err := b.sample(b.batch(p, c.target, c.series.Workers, c.ops, 0), &c.series)
		if err != nil || sample.Ops == 0 {
			return err
		}
		fit := min(max(int(sample.Rate()*b.budget.Seconds()), least), most)
		if fit <= 4*c.ops || sample.Seconds > b.budget.Seconds()/4 {
			c.ops = fit
			return nil
		}
		c.ops = min(fit, 10*c.ops)
	}
}

// count runs some operations of the pattern once more, to count the FUSE requests that they make.
func (b *bench) count(p pattern.Pattern, series []report.Series) error {
	const most = 500 // operations
	for _, t := range b.targets {
		at := slices.IndexFunc(series, func(s report.Series) bool { return s.Target == t.Name && s.Workers == 1 })
		if at < 0 || len(series[at].Samples) == 0 || !t.IsFUSE() {
			continue
		}
		batch := b.batch(p, t, 1, min(series[at].Samples[0].Ops, most), 1)
		requests, err := requestsOf(b.tracer, t, func(around func() func()) (measure.Sample, error) {
			batch.Around = around
			return b.sample(batch, &series[at])
		})
		if err != nil {
			return err
		}
		series[at].Requests = requests
	}
	return nil
}

// requestsOf counts the FUSE requests of the operations that run does between a call of around and one of what that returns,
// and returns how many there are of each kind for one operation; nil if there were no operations.
func requestsOf(tracer *measure.Tracer, t *target.Target, run func(around func() func()) (measure.Sample, error)) (map[string]float64, error) {
	var counts map[string]int
	var err error
	sample, rerr := run(func() func() {
		stop, serr := tracer.Start(t.Device)
		if serr != nil {
			err = serr
			return func() {}
		}
		return func() { counts, err = stop() }
	})
	if err := errors.Join(rerr, err); err != nil {
		return nil, fmt.Errorf("%s: count requests: %w", t.Name, err)
	}
	if sample.Ops == 0 {
		return nil, nil
	}
	requests := map[string]float64{}
	for name, n := range counts {
		requests[name] = float64(n) / float64(sample.Ops)
	}
	return requests, nil
}
