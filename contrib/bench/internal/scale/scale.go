// Package scale measures how the daemon grows: with users, with messages of one folder, with folders of one user.
package scale

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/measure"
	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/target"
)

// Settings are how far it goes. Each list is ascending.
type Settings struct {
	Users    []int         // enrolled; a tenth of them is unlocked
	Messages []int         // in one folder
	Folders  []int         // of one user, each with cur, new and tmp
	Logins   int           // per second
	Time     time.Duration // of the logins
}

// Full and Quick are the usual settings.
func Full() Settings {
	return Settings{Users: []int{100, 1000, 10000}, Messages: []int{1000, 10000, 100000, 500000}, Folders: []int{100, 1000, 5000}, Logins: 50, Time: 20 * time.Second}
}

// Quick returns settings for a look.
func Quick() Settings {
	return Settings{Users: []int{10, 100, 500}, Messages: []int{1000, 5000, 20000}, Folders: []int{50, 200, 500}, Logins: 20, Time: 5 * time.Second}
}

// Point is one value at one size.
type Point struct {
	Size  int     `json:"size"`
	Value float64 `json:"value"`
}

// Curve is one value, and how it grows.
type Curve struct {
	Name   string  `json:"name"`
	What   string  `json:"what"` // what the sizes count
	Unit   string  `json:"unit"`
	Points []Point `json:"points"`
}

// Result is what was measured, in the order in which it was.
type Result struct {
	Begun    time.Time `json:"begun"`
	Finished time.Time `json:"finished"`
	Command  string    `json:"command"`
	About    []string  `json:"about"` // machine, kernel, versions
	Curves   []*Curve  `json:"curves"`
}

func (r *Result) add(name, what, unit string, size int, value float64) {
	for _, c := range r.Curves {
		if c.Name == name && c.What == what {
			c.Points = append(c.Points, Point{size, value})
			return
		}
	}
	r.Curves = append(r.Curves, &Curve{name, what, unit, []Point{{size, value}}})
}

// run is one run.
type run struct {
	Settings
	site     *target.Site
	lower    string
	result   *Result
	progress io.Writer
}

// Run measures on a site of its own, whose store lies on the filesystem of lower.
func Run(e target.Env, s Settings, progress io.Writer) (result *Result, err error) {
	site, err := target.NewSite(e)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := site.Close(); err == nil {
			err = cerr
		}
	}()
	r := &run{Settings: s, site: site, lower: e.Lower, result: &Result{Begun: time.Now()}, progress: progress}
	if _, err := site.Start(); err != nil {
		return nil, err
	}
	for _, part := range []func() error{r.users, r.logins, r.messages, r.folders} {
		if err := part(); err != nil {
			return nil, err
		}
	}
	r.result.Finished = time.Now()
	return r.result, nil
}

func (r *run) note(name, what, unit string, size int, value float64) {
	fmt.Fprintf(r.progress, "%8d %-9s %-44s %12.3f %s\n", size, what, name, value, unit)
	r.result.add(name, what, unit, size, value)
}

// memory notes what the daemon takes.
func (r *run) memory(what string, size int) error {
	status, err := procStatus(r.site.Daemon())
	if err != nil {
		return err
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.site.Daemon()))
	if err != nil {
		return err
	}
	r.note("resident memory", what, "MiB", size, status["VmRSS"]/1024)
	r.note("locked memory", what, "MiB", size, status["VmLck"]/1024)
	r.note("open descriptors", what, "", size, float64(len(fds)))
	return nil
}

// procStatus returns the values in KiB of /proc/PID/status.
func procStatus(pid int) (map[string]float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil, err
	}
	values := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[2] == "kB" {
			if v, err := strconv.ParseFloat(fields[1], 64); err == nil {
				values[strings.TrimSuffix(fields[0], ":")] = v
			}
		}
	}
	return values, nil
}

// each returns the time in microseconds that f takes for each of n things.
func each(n int, f func() error) (float64, error) {
	began := time.Now()
	err := f()
	return float64(time.Since(began).Microseconds()) / float64(max(1, n)), err
}

// cold forgets everything that is cached.
func (r *run) cold() error { return measure.DropCaches(r.lower) }

func user(i int) string { return fmt.Sprintf("user%05d@example.org", i) }

func (r *run) home(i int) string { return filepath.Join(r.site.View, user(i)) }
