package main

import (
	"context"
	"sync"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/fs"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// job is one conversion of a user's tree, from its start until nothing is left that can be converted.
type job struct {
	user   account.User
	goal   control.Goal
	since  time.Time // when the user was unlocked: the job ends when he is locked; zero: he was locked when it began
	cancel context.CancelFunc
	done   chan struct{}
	now    func() time.Time
	again  bool // somebody asked to look again meanwhile; guarded by mu of the converter

	mu      sync.Mutex
	state   control.State // guarded by mu, like all below
	began   time.Time     // of the job
	passed  time.Duration // converting, in passes that have ended
	pass    time.Time     // when the pass that converts now began; zero if none does
	counted fs.Report     // of the last count
	before  fs.Report     // sum of the passes that have ended; only Done and Written
	current fs.Report     // of the last pass that converts, so far
	problem string
}

func (j *job) set(s control.State) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state = s
}

// counting takes the counts of a pass that only looks.
func (j *job) counting(r fs.Report) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.counted = r
}

func (j *job) beginPass() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state, j.current, j.pass = control.StateConverting, fs.Report{}, j.now()
}

func (j *job) converting(r fs.Report) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.current = r
}

func (j *job) endPass(r fs.Report) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.before.Done += r.Done
	j.before.Written += r.Written
	j.passed += j.now().Sub(j.pass)
	j.pass = time.Time{}
	// What a count would find now, but for what came meanwhile.
	j.counted.Left = max(r.Left-r.Done, 0)
	j.counted.Bytes = max(r.Bytes-r.Written, 0)
	if j.counted.Left == 0 {
		j.counted.Bytes = 0
	}
	j.current = fs.Report{Busy: r.Busy, Locked: r.Locked, Failed: r.Failed}
}

func (j *job) end(s control.State, problem string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state, j.problem, j.pass = s, problem, time.Time{}
}

// progress describes the job as it is now.
func (j *job) progress() control.Conversion {
	j.mu.Lock()
	defer j.mu.Unlock()
	busy := j.passed
	if !j.pass.IsZero() {
		busy += j.now().Sub(j.pass)
	}
	c := control.Conversion{
		Goal: j.goal, State: j.state, Started: known(j.began), Problem: j.problem,
		Entries: j.counted.Entries,
		Left:    max(j.counted.Left-j.current.Done, 0), BytesLeft: max(j.counted.Bytes-j.current.Written, 0),
		Busy: j.current.Busy, Locked: j.current.Locked, Failed: j.current.Failed,
		Done: j.before.Done + j.current.Done, Bytes: j.before.Written + j.current.Written,
	}
	if c.Left == 0 {
		c.BytesLeft = 0
	}
	if seconds := busy.Seconds(); seconds > 0 {
		c.Rate, c.ByteRate = float64(c.Done)/seconds, float64(c.Bytes)/seconds
	}
	if c.Rate > 0 {
		c.Remaining = float64(c.Left) / c.Rate
	}
	if c.ByteRate > 0 {
		c.Remaining = max(c.Remaining, float64(c.BytesLeft)/c.ByteRate)
	}
	return c
}
