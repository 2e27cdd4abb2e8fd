package soak

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// sample is what the daemon uses at one time.
type sample struct {
	descriptors, threads, resident int // resident in KiB
	inodes                         float64
}

func (k *soak) sample() sample {
	var x sample
	pid := k.s.PID()
	x.descriptors = harness.Descriptors(k, pid)
	x.resident, x.threads = harness.ProcStatus(k, pid, "VmRSS"), harness.ProcStatus(k, pid, "Threads")
	x.inodes = k.counters()["inodes"].(float64)
	return x
}

func (k *soak) counters() map[string]any { return k.s.Status(k)["counters"].(map[string]any) }

// watch takes samples until the time is over.
func (k *soak) watch(limit time.Duration) (all []sample) {
	every := max(limit/40, time.Second)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline) && !k.Failed(); {
		<-tick.C
		all = append(all, k.sample())
	}
	return all
}

// judgeGrowth compares the middle of the run with its end: users and messages are all known by then, so what goes on to grow
// is lost. When everybody has left, what is left of the work is counted.
func (k *soak) judgeGrowth(all []sample) {
	if len(all) < 8 {
		k.Fatalf("only %d samples", len(all))
	}
	for i := 0; i < len(all); i += max(len(all)/8, 1) {
		k.Logf("%+v", all[i])
	}
	most := func(part []sample) (m sample) {
		for _, x := range part {
			m.descriptors, m.threads, m.resident = max(m.descriptors, x.descriptors), max(m.threads, x.threads), max(m.resident, x.resident)
		}
		return m
	}
	half := len(all) / 2
	before, after := most(all[half/2:half]), most(all[len(all)-half/2:])
	k.Logf("second quarter %+v, last quarter %+v", before, after)
	if after.resident > before.resident*5/4+64<<10 {
		k.Errorf("memory grows: %d KiB, then %d KiB", before.resident, after.resident)
	}
	if after.threads > before.threads+40 {
		k.Errorf("threads grow: %d, then %d", before.threads, after.threads)
	}
	c := k.counters()
	requests := c["requests"].(map[string]any)
	closed := func() bool { // the kernel tells the daemon some time after a program has closed a directory
		c = k.counters()
		requests = c["requests"].(map[string]any)
		return requests["opendir"] == requests["releasedir"]
	}
	harness.Eventually(k, patience, "every directory that was opened is closed", closed)
	k.Logf("counters: %v", c)
	idle := c["idle_descriptors"].(float64)
	last := k.sample()
	// Beside the idle descriptors: sockets, the store, directories that the kernel has open, and the log.
	if n := float64(last.descriptors); n > idle+150 {
		k.Errorf("%v descriptors are open, of which %v are idle ones", n, idle)
	}
	opened := number(requests["open"]) + number(requests["create"]) + number(requests["tmpfile"])
	if released := number(requests["release"]); released > opened {
		k.Errorf("%v releases of %v handles", released, opened)
	}
	k.leftovers()
}

func number(v any) float64 {
	n, _ := v.(float64)
	return n
}

// leftovers compares store and view: every entry of the one is an entry of the other, apart from what FORMAT.md names.
func (k *soak) leftovers() {
	count := func(root string) (n, temporary, side int) {
		must(k, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			switch name := d.Name(); {
			case err != nil:
				return err
			case name == ".mailcryptfs":
				return filepath.SkipDir
			case strings.HasPrefix(name, "mc1!"):
				temporary++
			case strings.HasPrefix(name, "mc1+") && strings.HasSuffix(name, ".n"):
				side++
			default:
				n++
			}
			return nil
		}))
		return n, temporary, side
	}
	stored, temporary, side := count(k.s.Store)
	seen, _, _ := count(k.s.View)
	if stored != seen || temporary > 0 || side > 0 {
		k.Errorf("the store has %d entries, %d temporary ones and %d side entries; the view has %d", stored, temporary, side, seen)
	}
	var st unix.Statfs_t
	must(k, unix.Statfs(k.s.StoreFS, &st))
	k.Logf("%d entries; the filesystem uses %d inodes", stored, st.Files-st.Ffree)
}
