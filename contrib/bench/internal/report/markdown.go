package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/measure"
)

const (
	product = "mailcryptfs"
	locked  = "mailcryptfs-locked"
)

// WriteMarkdown writes the tables, for people.
func (r *Results) WriteMarkdown(w io.Writer) error {
	b := &strings.Builder{}
	r.writeMachine(b)
	r.writeRatios(b)
	r.writeWrong(b)
	r.writeLatencies(b)
	r.writeLocked(b)
	r.writeTable(b, "Latency of one operation, µs: p50 / p99 (medians over the rounds)", func(s *Series) string {
		return fmt.Sprintf("%s / %s",
			number(s.Of(func(s measure.Sample) float64 { return s.P50 }).Median),
			number(s.Of(func(s measure.Sample) float64 { return s.P99 }).Median))
	})
	r.writeTable(b, "CPU time of one operation, µs: daemon + caller (medians over the rounds; the caller's includes the kernel's work for it)",
		func(s *Series) string {
			return fmt.Sprintf("%s + %s",
				number(s.Of(func(s measure.Sample) float64 { return s.DaemonCPU }).Median),
				number(s.Of(func(s measure.Sample) float64 { return s.CallerCPU }).Median))
		})
	r.writeRequests(b)
	r.writePatterns(b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Results) writeMachine(b *strings.Builder) {
	m := r.Machine
	fmt.Fprintf(b, "Begun %s, took %s; %d rounds.\n\n", r.Begun.UTC().Format("2006-01-02 15:04 UTC"),
		r.Finished.Sub(r.Begun).Round(1e9), r.Rounds)
	fmt.Fprintf(b, "| | |\n|---|---|\n| command | `%s` |\n| machine | %s, %d CPUs, %d MiB |\n| kernel | %s |\n| lower filesystem | %s |\n"+
		"| Go | %s |\n| mailcryptfs | %s |\n| load average before / after | %.1f / %.1f |\n",
		strings.Join(r.Command, " "), m.CPU, m.CPUs, m.MemoryMiB, m.Kernel, m.Lower, m.Go, m.Revision, m.LoadBegun, m.LoadEnded)
	for _, t := range r.Targets {
		fmt.Fprintf(b, "| %s | %s (%s) |\n", t.Name, t.Doc, t.Version)
	}
}

// writeRatios writes the main table.
func (r *Results) writeRatios(b *strings.Builder) {
	fmt.Fprintf(b, "\n### Speed as a ratio to %s: median (least–greatest) over the rounds\n\n", r.Baseline)
	header := []string{"pattern", "workers", r.Baseline + " per s"}
	for _, t := range r.Targets {
		if t.Name != r.Baseline {
			header = append(header, t.Name)
		}
	}
	writeRow(b, append(header, "goal")...)
	writeRow(b, slices.Repeat([]string{"---"}, len(header)+1)...)
	for _, p := range r.Patterns {
		for _, workers := range r.Workers(p.Name) {
			row := []string{p.Name, fmt.Sprint(workers), r.rate(p, workers)}
			for _, t := range r.Targets {
				if t.Name == r.Baseline {
					continue
				}
				cell := ""
				if s, ok := r.Ratio(p.Name, workers, t.Name, r.Baseline); ok {
					cell = fmt.Sprintf("**%s** (%s–%s)", number(s.Median), number(s.Min), number(s.Max))
				}
				row = append(row, cell)
			}
			writeRow(b, append(row, r.verdict(p, workers))...)
		}
	}
}

// rate is the speed of the baseline.
func (r *Results) rate(p Pattern, workers int) string {
	s := r.Find(p.Name, r.Baseline, workers)
	if s == nil {
		return ""
	}
	rate := s.Of(measure.Sample.Rate).Median
	if p.Bytes > 0 {
		return number(rate*float64(p.Bytes)/1e6) + " MB"
	}
	return number(rate)
}

// verdict is the goal, and whether the product reached it.
func (r *Results) verdict(p Pattern, workers int) string {
	goal, ok := p.Goals[workers]
	if !ok {
		return ""
	}
	reached, ok := r.Ratio(p.Name, workers, product, r.Baseline)
	switch {
	case !ok:
		return fmt.Sprintf("≥ %v", goal)
	case reached.Median >= goal:
		return fmt.Sprintf("≥ %v: yes", goal)
	default:
		return fmt.Sprintf("≥ %v: **no**", goal)
	}
}

// writeWrong says which targets failed checks.
func (r *Results) writeWrong(b *strings.Builder) {
	title := "\n### Wrong results\n\nFound by the checks of the patterns; speed does not excuse them.\n\n"
	for _, s := range r.Series {
		if s.Wrong != "" {
			fmt.Fprintf(b, "%s- %s, %s, %d workers: %s\n", title, s.Target, s.Pattern, s.Workers, strings.ReplaceAll(s.Wrong, "\n", "; "))
			title = ""
		}
	}
}

// writeLatencies writes how the typical operation of one worker compares. Pauses, by which a busy machine lengthens some
// operations, move the median latency less than the speed.
func (r *Results) writeLatencies(b *strings.Builder) {
	if !slices.ContainsFunc(r.Series, func(s Series) bool { return s.Workers == 1 }) {
		return
	}
	fmt.Fprintf(b, "\n### The same by the median latency of one worker's operations: less disturbed by what else the machine does\n\n")
	header := []string{"pattern", r.Baseline + " p50, µs"}
	for _, t := range r.Targets {
		if t.Name != r.Baseline {
			header = append(header, t.Name)
		}
	}
	writeRow(b, header...)
	writeRow(b, slices.Repeat([]string{"---"}, len(header))...)
	median := func(s *Series) float64 { return s.Of(func(s measure.Sample) float64 { return s.P50 }).Median }
	for _, p := range r.Patterns {
		base := r.Find(p.Name, r.Baseline, 1)
		if base == nil {
			continue
		}
		row := []string{p.Name, number(median(base))}
		for _, t := range r.Targets {
			if t.Name == r.Baseline {
				continue
			}
			text := ""
			if s := r.Find(p.Name, t.Name, 1); s != nil && median(s) > 0 {
				text = number(median(base) / median(s))
			}
			row = append(row, text)
		}
		writeRow(b, row...)
	}
}

// writeLocked compares deliveries to locked users with those to unlocked ones.
func (r *Results) writeLocked(b *strings.Builder) {
	var rows []string
	for _, p := range r.Patterns {
		for _, workers := range r.Workers(p.Name) {
			if s, ok := r.Ratio(p.Name, workers, locked, product); ok {
				rows = append(rows, fmt.Sprintf("- %s, %d workers: %s (%s–%s)", p.Name, workers, number(s.Median), number(s.Min), number(s.Max)))
			}
		}
	}
	if len(rows) > 0 {
		fmt.Fprintf(b, "\n### Locked against unlocked, as a ratio of speeds (goal: ≥ 0.9)\n\n%s\n", strings.Join(rows, "\n"))
	}
}

func (r *Results) writeTable(b *strings.Builder, title string, cell func(*Series) string) {
	fmt.Fprintf(b, "\n### %s\n\n", title)
	header := []string{"pattern", "workers"}
	for _, t := range r.Targets {
		header = append(header, t.Name)
	}
	writeRow(b, header...)
	writeRow(b, slices.Repeat([]string{"---"}, len(header))...)
	for _, p := range r.Patterns {
		for _, workers := range r.Workers(p.Name) {
			row := []string{p.Name, fmt.Sprint(workers)}
			for _, t := range r.Targets {
				text := ""
				if s := r.Find(p.Name, t.Name, workers); s != nil {
					text = cell(s)
				}
				row = append(row, text)
			}
			writeRow(b, row...)
		}
	}
}

// writeRequests writes the FUSE requests of one operation, one row per pattern.
func (r *Results) writeRequests(b *strings.Builder) {
	counted := slices.DeleteFunc(slices.Clone(r.Targets), func(t Target) bool {
		return !slices.ContainsFunc(r.Series, func(s Series) bool { return s.Target == t.Name && s.Requests != nil })
	})
	if len(counted) == 0 {
		return
	}
	fmt.Fprint(b, "\n### FUSE requests of one operation (one worker; FORGET not counted)\n\n")
	header := []string{"pattern"}
	for _, t := range counted {
		header = append(header, t.Name)
	}
	writeRow(b, header...)
	writeRow(b, slices.Repeat([]string{"---"}, len(header))...)
	for _, p := range r.Patterns {
		row := []string{p.Name}
		for _, t := range counted {
			text := ""
			for _, s := range r.Series {
				if s.Pattern == p.Name && s.Target == t.Name && s.Requests != nil {
					text = requests(s.Requests)
				}
			}
			row = append(row, text)
		}
		writeRow(b, row...)
	}
}

// requests writes the sum and its parts, the most frequent first.
func requests(counts map[string]float64) string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		if counts[a] != counts[b] {
			return int(1000 * (counts[b] - counts[a]))
		}
		return strings.Compare(a, b)
	})
	sum, parts := 0.0, []string{}
	for _, name := range names {
		sum += counts[name]
		if counts[name] >= 0.005 {
			parts = append(parts, name+" "+number(counts[name]))
		}
	}
	if len(parts) == 0 {
		return "**0**"
	}
	return fmt.Sprintf("**%s**: %s", number(sum), strings.Join(parts, ", "))
}

func (r *Results) writePatterns(b *strings.Builder) {
	fmt.Fprint(b, "\n### Patterns\n\n| pattern | one operation |\n|---|---|\n")
	for _, p := range r.Patterns {
		writeRow(b, p.Name, p.Doc)
	}
}

func writeRow(b *strings.Builder, cells ...string) {
	fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
}

// number writes three significant digits, and no more than two after the point.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
	case v < 0.1 && v > 0:
		return fmt.Sprintf("%.3f", v)
	default:
		return strings.TrimSuffix(fmt.Sprintf("%.2f", v), ".00")
	}
}
