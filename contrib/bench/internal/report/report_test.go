package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/measure"
)

func example() *Results {
	series := func(target string, workers int, rates ...float64) Series {
		s := Series{Pattern: "deliver", Target: target, Workers: workers}
		for round, rate := range rates {
			s.Samples = append(s.Samples, measure.Sample{Round: round, Ops: 100, Seconds: 100 / rate, P50: 12, P99: 34})
		}
		return s
	}
	r := &Results{
		Begun: time.Unix(1e9, 0).UTC(), Finished: time.Unix(1e9+60, 0).UTC(), Command: []string{"run.sh"}, Rounds: 3, Baseline: "ext4",
		Targets:  []Target{{Name: "ext4"}, {Name: product}, {Name: locked}},
		Patterns: []Pattern{{Name: "deliver", Doc: "one mail", Goals: map[int]float64{1: 0.14, 16: 0.13}}},
		Series: []Series{
			series("ext4", 1, 1000, 2000, 4000), series(product, 1, 200, 500, 600), series(locked, 1, 190, 490, 610),
			series("ext4", 16, 1000, 1000, 1000), series(product, 16, 100, 110, 90),
		},
	}
	r.Series[1].Requests = map[string]float64{"LOOKUP": 2, "CREATE": 1, "WRITE": 0.001}
	return r
}

func TestRatioIsOfRounds(t *testing.T) {
	got, ok := example().Ratio("deliver", 1, product, "ext4")
	if want := (Spread{0.2, 0.15, 0.25}); !ok || got != want {
		t.Errorf("got %v, %v, want %v", got, ok, want)
	}
	if _, ok := example().Ratio("deliver", 4, product, "ext4"); ok {
		t.Error("a ratio of what was not measured")
	}
}

func TestSpread(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   Spread
	}{
		{nil, Spread{}},
		{[]float64{3}, Spread{3, 3, 3}},
		{[]float64{4, 1, 2}, Spread{2, 1, 4}},
		{[]float64{4, 1, 2, 3}, Spread{2.5, 1, 4}},
	} {
		if got := spread(test.values); got != test.want {
			t.Errorf("spread of %v is %v, want %v", test.values, got, test.want)
		}
	}
}

func TestJSONComesBack(t *testing.T) {
	var b bytes.Buffer
	if err := example().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	got, err := ReadJSON(&b)
	if err != nil {
		t.Fatal(err)
	}
	if want := example(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestMarkdown(t *testing.T) {
	var b strings.Builder
	if err := example().WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| deliver | 1 | 2000 | **0.20** (0.15–0.25) | **0.19** (0.15–0.24) | ≥ 0.14: yes |",
		"| deliver | 16 | 1000 | **0.10** (0.090–0.11) |  | ≥ 0.13: **no** |",
		"- deliver, 1 workers: 0.98 (0.95–1.02)",
		"| deliver | **3**: LOOKUP 2, CREATE 1 |",
		"| deliver | 1 | 12 / 34 | 12 / 34 | 12 / 34 |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("missing: %s", want)
		}
	}
	if t.Failed() {
		t.Log(b.String())
	}
}

func TestPlotIsSVG(t *testing.T) {
	var b bytes.Buffer
	if err := example().WritePlot(&b); err != nil {
		t.Fatal(err)
	}
	texts, d := []string{}, xml.NewDecoder(&b)
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok {
			texts = append(texts, strings.TrimSpace(string(text)))
		}
	}
	all := strings.Join(texts, " ")
	for _, want := range []string{"deliver", product, locked, "goal", "workers: 16"} {
		if !strings.Contains(all, want) {
			t.Errorf("the plot does not mention %q: %s", want, all)
		}
	}
}
