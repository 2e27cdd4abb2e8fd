// Command bench measures what a mail server asks of a filesystem, on mailcryptfs and on others beside it.
//
// Use run.sh: it builds what is measured, makes the filesystem beneath, and cleans up. Results are ratios to that
// filesystem itself, taken in rounds in which every target has its turn, so that a machine that is busy for a while is
// busy for all of them. README.md says what is measured and how to read it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/measure"
	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/pattern"
	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/report"
	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/target"
)

// options are the command line.
type options struct {
	env      target.Env
	out      string
	patterns string
	targets  string
	workers  string
	rounds   int
	budget   time.Duration
	quick    bool
	list     bool
	fixtures pattern.Settings
	command  string
	revision string
	about    string
	mail     bool
	scale    bool
	messages int
	mailTime time.Duration
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	o := options{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.env.Lower, "lower", "", "empty `directory` on the filesystem that all targets store to")
	f.StringVar(&o.env.Work, "work", "", "`directory` for mount points, sockets, a keyring and logs, in one with a unique name")
	f.StringVar(&o.env.Bin, "bin", "", "`directory` with the programs to measure")
	f.StringVar(&o.out, "out", ".", "`directory` for results.json, results.md and ratios.svg")
	f.StringVar(&o.patterns, "patterns", "", "comma-separated `names` of patterns, * matches anything (default: all)")
	f.StringVar(&o.targets, "targets", "", "comma-separated `names` of targets (default: all)")
	f.StringVar(&o.workers, "workers", "1,4,16", "comma-separated `numbers` of workers, of 1, 4 and 16")
	f.IntVar(&o.rounds, "rounds", 5, "rounds to measure")
	f.DurationVar(&o.budget, "batch", 300*time.Millisecond, "`time` that one batch of operations should take")
	f.BoolVar(&o.quick, "quick", false, "a look only: 2 rounds, short batches, 1 and 16 workers, a folder of 5,000 and a file of 16 MiB")
	f.BoolVar(&o.list, "list", false, "list patterns and targets and end")
	f.IntVar(&o.fixtures.Entries, "entries", 50000, "entries of the large folder")
	f.IntVar(&o.fixtures.Sequential, "large", 64<<20, "`bytes` of the large file, a multiple of 128 KiB")
	f.BoolVar(&o.mail, "mail", false, "measure Dovecot on the targets, instead of patterns of files")
	f.BoolVar(&o.scale, "scale", false, "measure how mailcryptfs grows with users, messages and folders, instead of patterns")
	f.IntVar(&o.messages, "messages", 2000, "messages of one burst of deliveries (with -mail)")
	f.DurationVar(&o.mailTime, "mail-time", time.Minute, "`time` of the IMAP clients in one round (with -mail)")
	f.StringVar(&o.command, "command", "", "`text`: the command as the report should show it")
	f.StringVar(&o.revision, "revision", "unknown", "`text`: what was built, for the report")
	f.StringVar(&o.about, "about", "", "`text`: what the filesystem beneath is, for the report")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.quick {
		set := map[string]bool{}
		f.Visit(func(f *flag.Flag) { set[f.Name] = true })
		for name, value := range map[string]string{
			"rounds": "2", "batch": "100ms", "workers": "1,16", "entries": "5000", "large": strconv.Itoa(16 << 20),
			"messages": "400", "mail-time": "10s",
		} {
			if !set[name] {
				if err := f.Set(name, value); err != nil {
					return o, err
				}
			}
		}
	}
	const chunk = 128 << 10
	if n := o.fixtures.Sequential; n < chunk || n%chunk != 0 {
		return o, fmt.Errorf("-large %d is no multiple of 128 KiB", n)
	}
	return o, nil
}

func run(args []string) error {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if o.list {
		list(o)
		return nil
	}
	if o.scale {
		return measureScale(o)
	}
	results, err := compare(o)
	if err != nil {
		return err
	}
	if err := write(o.out, results); err != nil {
		return err
	}
	for _, s := range results.Series {
		if s.Wrong != "" && strings.HasPrefix(s.Target, "mailcryptfs") {
			return fmt.Errorf("%s did something wrong in %s (%s); the results were written all the same", s.Target, s.Pattern, s.Wrong)
		}
	}
	return nil
}

// compare brings up the targets, and measures files or mail on them.
func compare(o options) (*report.Results, error) {
	patterns, err := choose(pattern.All(o.fixtures), o.patterns)
	if err != nil {
		return nil, err
	}
	workers, err := numbers(o.workers)
	if err != nil {
		return nil, err
	}
	o.env.Users = slices.Max(workers)
	names := target.Usual()
	if o.mail {
		o.env.Users, names = mailUsers, target.Mail()
	}
	if o.targets != "" {
		names = strings.Split(o.targets, ",")
	}
	if !slices.Contains(names, target.Baseline) {
		names = append(names, target.Baseline)
	}
	targets, err := target.Open(o.env, names)
	defer func() {
		for _, t := range slices.Backward(targets) {
			if err := t.Close(); err != nil {
				fmt.Fprintln(os.Stderr, "bench:", err)
			}
		}
	}()
	if err != nil {
		return nil, err
	}
	tracer, err := measure.NewTracer(filepath.Base(filepath.Dir(o.env.Work)), filepath.Join(o.env.Work, "tracefs"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: FUSE requests are not counted:", err)
		tracer = nil
	} else {
		defer tracer.Close()
	}
	if o.mail {
		return measureMail(o, targets, tracer)
	}
	return measureAll(o, targets, tracer, patterns, workers)
}

func measureAll(o options, targets []*target.Target, tracer *measure.Tracer, patterns []pattern.Pattern, workers []int) (*report.Results, error) {
	b := &bench{lower: o.env.Lower, targets: targets, workers: workers, rounds: o.rounds, budget: o.budget, tracer: tracer, progress: os.Stderr}
	if err := b.prepare(); err != nil {
		return nil, err
	}
	r := newResults(o, targets)
	for _, p := range patterns {
		series, err := b.run(p)
		if err != nil {
			return nil, err
		}
		if len(series) == 0 {
			continue // not meant for these numbers of workers
		}
		r.Patterns = append(r.Patterns, report.Pattern{Name: p.Name, Doc: p.Doc, Bytes: p.Bytes, Goals: p.Goals})
		r.Series = append(r.Series, series...)
	}
	r.Finished, r.Machine.LoadEnded = time.Now(), load()
	return r, nil
}

func newResults(o options, targets []*target.Target) *report.Results {
	r := &report.Results{Begun: time.Now(), Command: []string{o.command}, Rounds: o.rounds, Baseline: target.Baseline}
	r.Machine = machine(o.revision, o.about)
	for _, t := range targets {
		r.Targets = append(r.Targets, report.Target{Name: t.Name, Doc: target.Doc(t.Name), Version: t.Version})
	}
	return r
}

func list(o options) {
	for _, p := range pattern.All(o.fixtures) {
		fmt.Printf("%-18s %s\n", p.Name, p.Doc)
	}
	fmt.Println()
	for _, name := range target.Names() {
		fmt.Printf("%-18s %s\n", name, target.Doc(name))
	}
}

// choose returns the patterns whose names match one of a list of globs.
func choose(all []pattern.Pattern, globs string) ([]pattern.Pattern, error) {
	if globs == "" {
		return all, nil
	}
	wanted := map[string]bool{}
	for _, glob := range strings.Split(globs, ",") {
		found := false
		for _, p := range all {
			match, err := filepath.Match(glob, p.Name)
			if err != nil {
				return nil, fmt.Errorf("pattern %q: %w", glob, err)
			}
			found = found || match
			wanted[p.Name] = wanted[p.Name] || match
		}
		if !found {
			return nil, fmt.Errorf("no pattern is named %q; see -list", glob)
		}
	}
	return slices.DeleteFunc(all, func(p pattern.Pattern) bool { return !wanted[p.Name] }), nil
}

func numbers(text string) ([]int, error) {
	var all []int
	for _, part := range strings.Split(text, ",") {
		n, err := strconv.Atoi(part)
		if err != nil || !slices.Contains(pattern.Parallel(), n) {
			return nil, fmt.Errorf("%q is not among the numbers of workers %v", part, pattern.Parallel())
		}
		all = append(all, n)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// write writes the three files of results.
func write(dir string, r *report.Results) error {
	for name, to := range map[string]func(*os.File) error{
		"results.json": func(f *os.File) error { return r.WriteJSON(f) },
		"results.md":   func(f *os.File) error { return r.WriteMarkdown(f) },
		"ratios.svg":   func(f *os.File) error { return r.WritePlot(f) },
	} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if err := errors.Join(to(f), f.Close()); err != nil {
			return fmt.Errorf("cannot write %s: %w", name, err)
		}
	}
	return nil
}
