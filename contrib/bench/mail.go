package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/mail"
	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/measure"
	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/report"
	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/target"
)

// What the mail server is asked: so many connections deliver to so many users, who then all read their mail.
const (
	mailUsers   = 10
	connections = 4
)

// mailPatterns are what is measured with a mail server on the targets.
func mailPatterns(o options) []mailPattern {
	return []mailPattern{
		{
			report.Pattern{Name: "lmtp-burst", Doc: fmt.Sprintf("%d messages of 4 to 50 KiB, over %d connections", o.messages, connections),
				Goals: map[int]float64{connections: 0.85}},
			connections, true,
			func(s *mail.Server, o options, workers int, seed uint64) (measure.Sample, error) {
				return s.Burst(o.messages, workers, seed)
			},
		}, {
			report.Pattern{Name: "imap-load", Doc: fmt.Sprintf("%d clients for %v: IMAP commands", mailUsers, o.mailTime),
				Goals: map[int]float64{mailUsers: 0.7}},
			mailUsers, false,
			func(s *mail.Server, o options, workers int, seed uint64) (measure.Sample, error) {
				return s.Load(workers, o.mailTime, seed)
			},
		},
	}
}

type mailPattern struct {
	report.Pattern
	workers int
	deliver bool // means something to a target whose users are locked
	run     func(s *mail.Server, o options, workers int, seed uint64) (measure.Sample, error)
}

// measureMail measures round by round, all targets in each round, each round beginning with another one. Deliveries come
// first: they fill the mailboxes that the clients then read. What the first round finds cold is not measured.
func measureMail(o options, targets []*target.Target, tracer *measure.Tracer) (*report.Results, error) {
	servers, err := startServers(o, targets)
	defer func() {
		for _, s := range servers {
			if err := s.Stop(); err != nil {
				fmt.Fprintln(os.Stderr, "bench:", err)
			}
		}
	}()
	if err != nil {
		return nil, err
	}
	r := newResults(o, targets)
	for _, p := range mailPatterns(o) {
		r.Patterns = append(r.Patterns, p.Pattern)
		series := map[*mail.Server]*report.Series{}
		for round := -1; round < o.rounds; round++ {
			for i := range servers {
				s := servers[(i+round+1)%len(servers)]
				if s.Target.DeliverOnly && !p.deliver {
					continue
				}
				if series[s] == nil {
					series[s] = &report.Series{Pattern: p.Name, Target: s.Target.Name, Workers: p.workers}
				}
				if err := sampleMail(o, p, s, round, series[s]); err != nil {
					return nil, err
				}
			}
		}
		for _, s := range servers {
			if series[s] == nil {
				continue
			}
			if err := countMail(o, tracer, p, s, series[s]); err != nil {
				return nil, err
			}
			r.Series = append(r.Series, *series[s])
		}
	}
	r.Finished, r.Machine.LoadEnded = time.Now(), load()
	return r, nil
}

func sampleMail(o options, p mailPattern, s *mail.Server, round int, series *report.Series) error {
	if err := measure.Settle(o.env.Lower); err != nil {
		return err
	}
	before := len(s.Complaints())
	sample, err := p.run(s, o, p.workers, uint64(round+1))
	if err == nil {
		if lines := s.Complaints()[before:]; len(lines) > 0 && !s.Target.DeliverOnly { // refused header caches are expected there
			err = errors.New(lines[0])
		}
	}
	if err != nil {
		series.Wrong = err.Error()
	}
	fmt.Fprintf(os.Stderr, "%-12s round %2d  %-20s %8.1f/s  %v\n", p.Name, round+1, s.Target.Name, sample.Rate(), series.Wrong)
	if sample.Round = round; round >= 0 && sample.Ops > 0 {
		series.Samples = append(series.Samples, sample)
	}
	return nil
}

// countMail has one worker do some of the work once more, to count the FUSE requests that it makes.
func countMail(o options, tracer *measure.Tracer, p mailPattern, s *mail.Server, series *report.Series) (err error) {
	if tracer == nil || !s.Target.IsFUSE() || len(series.Samples) == 0 {
		return nil
	}
	o.messages, o.mailTime = min(o.messages, 200), min(o.mailTime, 3*time.Second)
	series.Requests, err = requestsOf(tracer, s.Target, func(around func() func()) (measure.Sample, error) {
		defer around()()
		return p.run(s, o, 1, 1)
	})
	return err
}

func startServers(o options, targets []*target.Target) ([]*mail.Server, error) {
	var servers []*mail.Server
	for _, t := range targets {
		s, err := mail.Start(t, mailUsers, filepath.Join(o.env.Work, "dovecot-"+t.Name))
		if err != nil {
			return servers, fmt.Errorf("%s: %w", t.Name, err)
		}
		servers = append(servers, s)
	}
	return servers, nil
}
