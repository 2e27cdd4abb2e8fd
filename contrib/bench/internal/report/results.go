// Package report holds the results of a benchmark, computes ratios, and writes them as JSON, as a table and as a plot.
package report

import (
	"encoding/json"
	"io"
	"slices"
	"time"

	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/measure"
)

// Results are all that one run of the benchmark measured.
type Results struct {
	Begun    time.Time `json:"begun"`
	Finished time.Time `json:"finished"`
	Command  []string  `json:"command"`
	Machine  Machine   `json:"machine"`
	Rounds   int       `json:"rounds"`
	Baseline string    `json:"baseline"`
	Targets  []Target  `json:"targets"`
	Patterns []Pattern `json:"patterns"`
	Series   []Series  `json:"series"`
}

// Machine is where it was measured.
type Machine struct {
	Kernel    string  `json:"kernel"`
	CPU       string  `json:"cpu"`
	CPUs      int     `json:"cpus"`
	MemoryMiB int     `json:"memory_mib"`
	Go        string  `json:"go"`
	Revision  string  `json:"revision"`   // of mailcryptfs
	Lower     string  `json:"lower"`      // what all targets store to
	LoadBegun float64 `json:"load_begun"` // load average of one minute before
	LoadEnded float64 `json:"load_ended"` // and after
}

// Target is one filesystem that was measured.
type Target struct {
	Name    string `json:"name"`
	Doc     string `json:"doc"`
	Version string `json:"version"`
}

// Pattern is one pattern that was measured.
type Pattern struct {
	Name  string          `json:"name"`
	Doc   string          `json:"doc"`
	Bytes int             `json:"bytes_per_op,omitempty"`
	Goals map[int]float64 `json:"goals,omitempty"` // wanted ratio to the baseline by number of workers
}

// Series is one pattern on one target with one number of workers, round by round.
type Series struct {
	Pattern  string             `json:"pattern"`
	Target   string             `json:"target"`
	Workers  int                `json:"workers"`
	Samples  []measure.Sample   `json:"samples"`
	Requests map[string]float64 `json:"fuse_requests_per_op,omitempty"` // counted with one worker, apart from the samples
	Wrong    string             `json:"wrong,omitempty"`                // what the target did wrong, if it did
}

// Spread is a median with the least and the greatest value beside it.
type Spread struct{ Median, Min, Max float64 }

func spread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	values = slices.Sorted(slices.Values(values))
	middle := len(values) / 2
	median := values[middle]
	if len(values)%2 == 0 {
		median = (values[middle-1] + median) / 2
	}
	return Spread{median, values[0], values[len(values)-1]}
}

// Of returns the spread of one value of the samples.
func (s *Series) Of(value func(measure.Sample) float64) Spread {
	var values []float64
	for _, sample := range s.Samples {
		values = append(values, value(sample))
	}
	return spread(values)
}

// Find returns the series, or nil if it was not measured.
func (r *Results) Find(pattern, target string, workers int) *Series {
	for i, s := range r.Series {
		if s.Pattern == pattern && s.Target == target && s.Workers == workers {
			return &r.Series[i]
		}
	}
	return nil
}

// Ratio returns how fast a target was in comparison with another, round by round: samples of one round were taken within
// seconds of each other, so that what else the machine did weighs on both alike. It is false if either was not measured.
func (r *Results) Ratio(pattern string, workers int, target, base string) (Spread, bool) {
	of, to := r.Find(pattern, target, workers), r.Find(pattern, base, workers)
	if of == nil || to == nil {
		return Spread{}, false
	}
	var ratios []float64
	for _, a := range of.Samples {
		for _, b := range to.Samples {
			if a.Round == b.Round {
				ratios = append(ratios, a.Rate()/b.Rate())
			}
		}
	}
	return spread(ratios), len(ratios) > 0
}

// Workers returns the numbers of workers that a pattern was measured with, in ascending order.
func (r *Results) Workers(pattern string) []int {
	var workers []int
	for _, s := range r.Series {
		if s.Pattern == pattern && !slices.Contains(workers, s.Workers) {
			workers = append(workers, s.Workers)
		}
	}
	slices.Sort(workers)
	return workers
}

// WriteJSON writes everything, for programs.
func (r *Results) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "\t")
	return e.Encode(r)
}

// ReadJSON reads what WriteJSON wrote.
func ReadJSON(in io.Reader) (*Results, error) {
	d := json.NewDecoder(in)
	d.DisallowUnknownFields()
	r := &Results{}
	return r, d.Decode(r)
}
