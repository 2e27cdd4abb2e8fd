package powercut

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"github.com/mailcryptfs/mailcryptfs/integration/trap"
	"github.com/mailcryptfs/mailcryptfs/integration/writers"
)

func TestMain(m *testing.M) {
	harness.WithoutRace()
	procs := writers.Procs()
	procs["trap"], procs["disk"] = trap.Child, childDisk
	os.Exit(harness.Main(m, procs))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// outcome is what a check of one moment found.
type outcome struct {
	acknowledged int
	problems     []writers.Violation
}

// check serves the disk of one moment and looks for what was acknowledged before.
func (r *recording) check(t *testing.T, p *replayer, pt point) (o outcome) {
	t.Helper()
	image := p.file(t, pt)
	defer func() { must(t, os.Remove(image)) }()
	dev, err := attach(image, harness.ImageDir(), false)
	must(t, err)
	defer func() { must(t, dev.Close()) }()
	device := dev.Name()
	if problem := r.mend(t, device); problem != "" {
		o.problems = append(o.problems, writers.Violation{Kind: "filesystem", Text: problem})
	}
	r.l.mountOn(t, device, r.s.StoreFS)
	defer unmount(t, r.s.StoreFS)
	r.reboot(t)
	o.verify(t, r, pt.at, "before the daemon starts")
	if err := r.s.TryServe(t); err != nil {
		o.problems = append(o.problems, writers.Violation{Kind: "daemon", Text: err.Error()})
		return o
	}
	defer r.s.Stop(t)
	work := *r.work
	work.PowerCut = true
	n, bad := work.Check(t, uint64(pt.at))
	o.acknowledged, o.problems = n, append(o.problems, bad...)
	o.verify(t, r, pt.at, "with a daemon")
	return o
}

// verify has the verb of that name look at the store. A file that was being written when the power went and that nobody
// was told of may be damaged: nothing was promised.
func (o *outcome) verify(t *testing.T, r *recording, until int, when string) {
	t.Helper()
	v := r.s.Call(t, nil, "verify", "--json")
	var found struct {
		Findings []struct {
			Kind, View, Store, Detail string
			Damage                    bool
		}
	}
	if err := json.Unmarshal([]byte(v.Out), &found); err != nil {
		o.problems = append(o.problems, writers.Violation{Kind: "verify", Text: fmt.Sprintf("%s: exit %d: %s%s", when, v.Code, v.Out, v.Err)})
	}
	for _, f := range found.Findings {
		rel, _ := filepath.Rel(r.s.View, f.View)
		if f.Damage && (r.work.Promised(t, rel, uint64(until)) || f.View == "") {
			o.problems = append(o.problems, writers.Violation{Kind: "verify", Text: fmt.Sprintf("%s: %s: %s %s", when, f.Kind, f.Store, f.Detail)})
		}
	}
}

// size is the number of moments for a filesystem.
func size(t *testing.T, l lower) int {
	text := os.Getenv("POWERCUT_POINTS")
	if text == "" {
		return 26 * l.share / 100
	}
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}

// TestPowerCut is the whole of it.
func TestPowerCut(t *testing.T) {
	for _, l := range lowers(t) {
		t.Run(l.name, func(t *testing.T) { cut(t, l, size(t, l)) })
	}
}

func cut(t *testing.T, l lower, n int) {
	seed := uint64(time.Now().UnixNano())
	r := record(t, l, 500*time.Millisecond+time.Duration(n)*10*time.Millisecond, nil)
	t.Logf("%d writes and flushes recorded; seed %d", len(r.events), seed)
	rnd := rand.New(rand.NewPCG(seed, 2))
	var all []point
	for how, share := range map[mode]int{inOrder: 25, dropped: 15, reordered: 25, torn4096: 35, torn512: 20} {
		all = append(all, points(rnd, r.events, how, (n*share+99)/100)...)
	}
	// A message that was being written, and that nobody was told of; and what 512-byte tearing leaves.
	r.s.Announce(`path=\S+/(tmp/|\.f\d+-\d+/cur/|list-\d+\.lock)|conversion is not complete|/inplace-0 .*does not authenticate|/log-0 .*does not authenticate`)
	p := newReplayer(r, seed)
	count, wrong, acknowledged := map[mode]int{}, map[mode]int{}, 0
	for _, pt := range sorted(all) {
		o := r.check(t, p, pt)
		count[pt.how]++
		acknowledged += o.acknowledged
		if len(o.problems) > 0 {
			wrong[pt.how]++
		}
		for _, v := range o.problems {
			if pt.how == torn512 && (v.Kind == "append" || v.Kind == "inplace" || v.Kind == "verify") {
				t.Logf("event %d, %s: %s", pt.at, pt.how, v)
			} else {
				t.Errorf("event %d of %d, %s: %s", pt.at, len(r.events), pt.how, v)
			}
		}
	}
	for how, n := range count {
		t.Logf("%s: %d moments, %d with something lost", how, n, wrong[how])
	}
	t.Logf("%d acknowledged operations looked at", acknowledged)
}

// TestFlush: a flush of the loop device reaches the disk, and without one there is none.
func TestFlush(t *testing.T) {
	d := newDisk(t, 16<<20)
	defer d.end(t)
	clock := harness.Dir(t) + "/clock"
	fd, err := unix.Open(d.device, unix.O_RDWR|unix.O_DIRECT, 0)
	must(t, err)
	defer func() { _ = unix.Close(fd) }()
	mem, err := unix.Mmap(-1, 0, 2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS) // aligned
	must(t, err)
	defer func() { must(t, unix.Munmap(mem)) }()
	write := func(sync bool) (flushes int) {
		d.record(t, clock)
		_, err := unix.Pwrite(fd, mem, 3*page)
		must(t, err)
		if sync {
			must(t, unix.Fsync(fd))
		}
		events := d.stop(t)
		if len(events) == 0 || events[0].off != 3*page || len(events[0].data) != 2*page {
			t.Fatalf("the write came as %d events", len(events))
		}
		for _, e := range events[1:] {
			if e.flush() {
				flushes++
			}
		}
		return flushes
	}
	if n := write(false); n != 0 {
		t.Errorf("a write alone made %d flushes", n)
	}
	if n := write(true); n != 1 {
		t.Errorf("a write and fsync made %d flushes", n)
	}
}

// TestControls: a daemon that does not make durable what it should is caught, by what its users have lost.
func TestControls(t *testing.T) {
	for _, tt := range []struct {
		name    string
		swallow func(c *trap.Call) bool
		lost    []string // kinds of writers, one of which has to miss something
	}{
		{"fsync does nothing", func(*trap.Call) bool { return true }, []string{"deliver", "append", "inplace"}},
		{"fsync of directories does nothing", (*trap.Call).IsDir, []string{"deliver", "rename", "replace", "link", "folder"}},
		{"key records are not synced", func(c *trap.Call) bool { return strings.Contains(c.Path(), "/.mailcryptfs/") }, []string{"keys", "deliver"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := record(t, lowers(t)[0], time.Second, trap.Swallow(tt.swallow))
			r.s.Announce(`.`)
			seed := uint64(time.Now().UnixNano())
			p := newReplayer(r, seed)
			rnd := rand.New(rand.NewPCG(seed, 2))
			const tries = 30
			for i, pt := range sorted(points(rnd, r.events, dropped, tries)) {
				for _, v := range r.check(t, p, pt).problems {
					if slices.Contains(tt.lost, v.Kind) {
						t.Logf("caught at moment %d: %s", i+1, v)
						return
					}
				}
			}
			t.Errorf("nothing was noticed at %d moments; seed %d", tries, seed)
		})
	}
}
