package scale

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// WriteJSON writes everything.
func (r *Result) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteMarkdown writes one table for each thing that is counted.
func (r *Result) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Begun %s, took %v.\n\n", r.Begun.UTC().Format("2006-01-02 15:04 MST"), r.Finished.Sub(r.Begun).Round(time.Second))
	fmt.Fprintf(&b, "`%s`\n\n", r.Command)
	for _, line := range r.About {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	what := ""
	for _, c := range r.Curves {
		if c.What != what {
			what = c.What
			fmt.Fprintf(&b, "\n| %s |", what)
			for _, p := range c.Points {
				fmt.Fprintf(&b, " %d |", p.Size)
			}
			fmt.Fprintf(&b, "\n|---|%s\n", strings.Repeat("---|", len(c.Points)))
		}
		fmt.Fprintf(&b, "| %s |", c.title())
		for _, p := range c.Points {
			fmt.Fprintf(&b, " %s |", number(p.Value))
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (c *Curve) title() string {
	if c.Unit == "" {
		return c.Name
	}
	return c.Name + ", " + c.Unit
}

// number writes a value with three digits that count.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// WritePlot writes a panel for each curve of several sizes, as SVG.
func (r *Result) WritePlot(w io.Writer) error {
	const columns = 3
	var panels [][]*plot.Plot
	n := 0
	for _, c := range r.Curves {
		if len(c.Points) < 2 {
			continue
		}
		p, err := c.panel()
		if err != nil {
			return err
		}
		if n%columns == 0 {
			panels = append(panels, make([]*plot.Plot, columns))
		}
		panels[len(panels)-1][n%columns] = p
		n++
	}
	canvas := vgsvg.New(columns*9*vg.Centimeter, vg.Length(len(panels))*6*vg.Centimeter)
	tiles := draw.Tiles{Rows: len(panels), Cols: columns, PadX: vg.Centimeter, PadY: vg.Centimeter, PadTop: 10, PadBottom: 10, PadLeft: 10, PadRight: 10}
	for i, row := range plot.Align(panels, tiles, draw.New(canvas)) {
		for j, c := range row {
			if panels[i][j] != nil {
				panels[i][j].Draw(c)
			}
		}
	}
	_, err := canvas.WriteTo(w)
	return err
}

// panel draws one curve. Both axes begin at zero, so that a straight line is linear growth.
func (c *Curve) panel() (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = c.Name, c.What, c.Unit
	points := plotter.XYs{}
	for _, at := range c.Points {
		points = append(points, plotter.XY{X: float64(at.Size), Y: at.Value})
	}
	line, marks, err := plotter.NewLinePoints(points)
	if err != nil {
		return nil, err
	}
	p.Add(plotter.NewGrid(), line, marks)
	p.X.Min, p.Y.Min = 0, 0
	return p, nil
}
