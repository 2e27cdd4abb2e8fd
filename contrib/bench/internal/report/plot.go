package report

import (
	"fmt"
	"image/color"
	"io"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// look is how one target appears: colours that people with any colour vision tell apart, and a shape of its own.
type look struct {
	target string
	color  color.RGBA
	shape  draw.GlyphDrawer
}

func looks() []look {
	return []look{
		{"gocryptfs", color.RGBA{0xe6, 0x9f, 0x00, 0xff}, draw.TriangleGlyph{}},
		{"gocryptfs-allow", color.RGBA{0xe6, 0x9f, 0x00, 0xff}, draw.PlusGlyph{}},
		{"gocryptfs26", color.RGBA{0xd5, 0x5e, 0x00, 0xff}, draw.TriangleGlyph{}},
		{"gocryptfs26-allow", color.RGBA{0xd5, 0x5e, 0x00, 0xff}, draw.PlusGlyph{}},
		{"loopback", color.RGBA{0x80, 0x80, 0x80, 0xff}, draw.SquareGlyph{}},
		{product, color.RGBA{0x00, 0x72, 0xb2, 0xff}, draw.CircleGlyph{}},
		{product + "-other", color.RGBA{0x00, 0x9e, 0x73, 0xff}, draw.CircleGlyph{}},
		{locked, color.RGBA{0x56, 0xb4, 0xe9, 0xff}, draw.RingGlyph{}},
	}
}

// WritePlot writes the ratios to the baseline as SVG, one panel for each number of workers, with bars from the least to
// the greatest.
func (r *Results) WritePlot(w io.Writer) error {
	var counts []int
	for _, p := range r.Patterns {
		counts = append(counts, r.Workers(p.Name)...)
	}
	slices.Sort(counts)
	counts = slices.Compact(counts)
	if len(counts) == 0 {
		return fmt.Errorf("cannot plot: nothing was measured")
	}
	panels := [][]*plot.Plot{{}}
	for i, workers := range counts {
		p, err := r.panel(workers, i == 0)
		if err != nil {
			return err
		}
		panels[0] = append(panels[0], p)
	}
	height := vg.Length(len(r.Patterns)+6) * 0.75 * vg.Centimeter
	canvas := vgsvg.New(vg.Length(len(counts))*16*vg.Centimeter, height)
	tiles := draw.Tiles{Rows: 1, Cols: len(counts), PadX: vg.Centimeter, PadTop: 10, PadBottom: 10, PadLeft: 10, PadRight: 10}
	for i, c := range plot.Align(panels, tiles, draw.New(canvas))[0] {
		panels[0][i].Draw(c)
	}
	_, err := canvas.WriteTo(w)
	return err
}

// panel draws one number of workers.
func (r *Results) panel(workers int, legend bool) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = fmt.Sprintf("Speed as a ratio to %s, workers: %d", r.Baseline, workers)
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, ratioTicks{}
	p.X.Min, p.X.Max = 0.005, 20
	p.X.Label.Text = fmt.Sprintf("1 = as fast as %s; median, least and greatest of %d rounds", r.Baseline, r.Rounds)
	names := make([]string, len(r.Patterns))
	for i, pattern := range r.Patterns {
		names[len(names)-1-i] = pattern.Name
	}
	p.NominalY(names...)
	p.Y.Min, p.Y.Max = -0.5, float64(len(names))-0.5
	asFast, err := plotter.NewLine(plotter.XYs{{X: 1, Y: p.Y.Min}, {X: 1, Y: p.Y.Max}})
	if err != nil {
		return nil, err
	}
	p.Add(plotter.NewGrid(), asFast)
	for _, l := range looks() {
		if err := r.points(p, l, workers, legend); err != nil {
			return nil, err
		}
	}
	if err := r.goals(p, workers, legend); err != nil {
		return nil, err
	}
	p.Legend.Top = true
	return p, nil
}

// spreads are points with horizontal errors.
type spreads struct {
	plotter.XYs
	plotter.XErrors
}

func (r *Results) points(p *plot.Plot, l look, workers int, legend bool) error {
	var s spreads
	for i, pattern := range r.Patterns {
		if ratio, ok := r.Ratio(pattern.Name, workers, l.target, r.Baseline); ok {
			s.XYs = append(s.XYs, plotter.XY{X: ratio.Median, Y: float64(len(r.Patterns) - 1 - i)})
			s.XErrors = append(s.XErrors, struct{ Low, High float64 }{ratio.Min - ratio.Median, ratio.Max - ratio.Median})
		}
	}
	if len(s.XYs) == 0 {
		return nil
	}
	points, err := plotter.NewScatter(s.XYs)
	if err != nil {
		return err
	}
	points.Color, points.Shape, points.Radius = l.color, l.shape, 3.5
	bars, err := plotter.NewXErrorBars(s)
	if err != nil {
		return err
	}
	bars.Color = l.color
	p.Add(bars, points)
	if legend {
		p.Legend.Add(l.target, points)
	}
	return nil
}

// goals draws a mark where the ratio should be.
func (r *Results) goals(p *plot.Plot, workers int, legend bool) error {
	var at plotter.XYs
	for i, pattern := range r.Patterns {
		if goal, ok := pattern.Goals[workers]; ok {
			at = append(at, plotter.XY{X: goal, Y: float64(len(r.Patterns) - 1 - i)})
		}
	}
	if len(at) == 0 {
		return nil
	}
	marks, err := plotter.NewScatter(at)
	if err != nil {
		return err
	}
	marks.Shape, marks.Radius, marks.Color = draw.CrossGlyph{}, 5, color.Black
	p.Add(marks)
	if legend {
		p.Legend.Add("goal", marks)
	}
	return nil
}

// ratioTicks are the marks of a logarithmic axis of ratios.
type ratioTicks struct{}

// Ticks implements plot.Ticker.
func (ratioTicks) Ticks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	for _, decade := range []float64{0.001, 0.01, 0.1, 1, 10, 100} {
		for _, step := range []float64{1, 2, 5} {
			if v := decade * step; v >= low && v <= high {
				ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprint(v)})
			}
		}
	}
	return ticks
}
