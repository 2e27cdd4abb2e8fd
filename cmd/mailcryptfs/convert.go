package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/fs"
	"github.com/mailcryptfs/mailcryptfs/keyring"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// How often the converter looks and tries.
const (
	lookAgain   = 5 * time.Minute  // at the tree of a user in which nothing is left; longer where looking takes long
	lookRotated = 30 * time.Second // the same while old keys wait to be destroyed
	lookShare   = 20               // a twentieth of the time at most is spent with looking again
	firstPause  = time.Second      // before entries that were in use are tried again; doubled each time
	longPause   = 30 * time.Second // at most
	vainTries   = 5                // passes that convert nothing before a job gives up
	showsPerSec = 4                // to whom waits for a conversion
)

// trees is what the converter uses of fs.View.
type trees interface {
	Encrypt(ctx context.Context, u account.User, dry bool, show func(fs.Report)) (fs.Report, error)
	Decrypt(ctx context.Context, u account.User, dry bool, show func(fs.Report)) (fs.Report, error)
	Sealed(ctx context.Context, u account.User) (bool, fs.Report, error)
}

// keys is what the converter uses of keyring.Ring.
type keys interface {
	Holds(u account.User) bool
	Status(u account.User) (keyring.Status, error)
	Unlocked() []keyring.Status
	KeptPlain(u account.User) (bool, error)
	Rotation(u account.User) (keyring.Rotation, bool, error)
	FinishRotation(ctx context.Context, u account.User, seen keyring.Rotation) error
}

// converter converts the trees of users: of each unlocked one to his key, in the background, and of others when it is
// asked to. It is safe for concurrent use.
type converter struct {
	trees trees
	keys  keys
	log   *slog.Logger
	now   func() time.Time
	slots chan struct{} // one element for each user who is converted
	wake  chan struct{}

	running sync.WaitGroup

	mu     sync.Mutex
	ctx    context.Context // that of run: jobs outlive the requests that began them; guarded by mu, as all below
	jobs   map[account.User]*job
	looked map[account.User]*looked // unlocked users
	swept  map[account.User]bool    // whose trees a pass has gone through that clears away what kills of a daemon left
}

// looked is what the background knows of an unlocked user.
type looked struct {
	since time.Time // of the unlock that it is about
	next  time.Time // when to look again
	once  bool      // a job has ended since the unlock, or none is wanted
	last  *job
}

func newConverter(t trees, k keys, users int, log *slog.Logger) *converter {
	return &converter{
		trees: t, keys: k, log: log, now: time.Now, slots: make(chan struct{}, max(1, users)), wake: make(chan struct{}, 1),
		ctx: context.Background(), jobs: make(map[account.User]*job), looked: make(map[account.User]*looked), swept: make(map[account.User]bool),
	}
}

// run starts jobs for unlocked users until ctx ends, and then waits for the end of all.
func (c *converter) run(ctx context.Context, tick <-chan time.Time) {
	c.mu.Lock()
	c.ctx = ctx
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		//lint:ignore SA2001 whoever saw the context before its end is counted in running then
		c.mu.Unlock()
		c.running.Wait()
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		case <-c.wake:
		}
		c.look()
	}
}

// poke makes run look now.
func (c *converter) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// look begins jobs for the unlocked users who are due.
func (c *converter) look() {
	unlocked := c.keys.Unlocked()
	for _, u := range c.due(unlocked) {
		plain, err := c.keys.KeptPlain(u)
		if err != nil {
			c.log.Warn("cannot tell whether a tree shall stay plain: it is converted", "user", string(u), "err", err)
		}
		if plain {
			c.settle(u, lookAgain)
			continue
		}
		c.claim(u, control.GoalEncrypt, false)
	}
}

// due returns users to look at, and forgets those who are locked.
func (c *converter) due(unlocked []keyring.Status) []account.User {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	known := make(map[account.User]*looked, len(unlocked))
	var due []account.User
	for _, s := range unlocked {
		l := c.looked[s.User]
		if l == nil || !l.since.Equal(s.Since) {
			l = &looked{since: s.Since, next: now}
		}
		known[s.User] = l
		if c.jobs[s.User] == nil && !now.Before(l.next) {
			due = append(due, s.User)
		}
	}
	c.looked = known
	return due
}

// isDue reports whether the background wants a job of the user still. The caller holds mu.
func (c *converter) isDue(u account.User) bool {
	l := c.looked[u]
	return l != nil && !c.now().Before(l.next)
}

// settle notes that nothing is to do for the user for some time.
func (c *converter) settle(u account.User, pause time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.looked[u]; l != nil {
		l.once, l.next = true, c.now().Add(pause)
	}
}

// ended notes the end of a job, and when to look again, in one go: or due would find neither the job nor that it is over. It
// reports false, and the job goes on, if all went well and somebody has asked to look again meanwhile: who waits for the job
// waits for that.
func (c *converter) ended(j *job, failed bool, pause time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	again := j.again
	j.again = false
	if again && !failed {
		return false
	}
	delete(c.jobs, j.user)
	switch l := c.looked[j.user]; {
	case l == nil:
	case again || l.since.After(j.began): // what was done before the unlock does not count
		l.last, l.next = j, c.now()
		c.poke()
	default:
		l.last, l.once, l.next = j, true, c.now().Add(pause)
	}
	return true
}

// claim returns the user's job, or begins one; nil when the daemon ends. One of the same goal goes through the tree once
// more if it was asked for: it may have passed by what it is asked for now. The background gets nil also where a job has
// come to its end since it looked: that may have been a decrypt.
func (c *converter) claim(u account.User, g control.Goal, asked bool) (j *job, begun bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if j = c.jobs[u]; j != nil {
		j.again = j.again || asked && j.goal == g
		return j, false
	}
	if c.ctx.Err() != nil || !asked && !c.isDue(u) {
		return nil, false
	}
	ctx, cancel := context.WithCancel(c.ctx)
	j = &job{
		user: u, goal: g, since: c.since(u), cancel: cancel, done: make(chan struct{}), now: c.now,
		state: control.StateQueued, began: c.now(),
	}
	c.jobs[u] = j
	c.running.Go(func() { c.work(ctx, j) })
	return j, true
}

// work runs a job to its end.
func (c *converter) work(ctx context.Context, j *job) {
	defer close(j.done)
	defer j.cancel()
	work := c.passes
	if j.goal == control.GoalEncrypt {
		work = c.encrypt
	}
	for {
		began := c.now()
		err := work(ctx, j)
		switch {
		case err == nil:
			j.end(control.StateDone, "")
		case errors.Is(err, context.Canceled):
			j.end(control.StateStopped, "it was interrupted: the user was locked, another conversion was asked for, or the daemon ended")
		default:
			j.end(control.StateStopped, err.Error())
		}
		pause := lookAgain
		if c.rotating(j.user) {
			pause = lookRotated
		}
		if c.ended(j, err != nil, max(pause, lookShare*c.now().Sub(began))) {
			c.report(ctx, j, err)
			return
		}
	}
}

// report logs what a job has done, and what kept it from its goal.
func (c *converter) report(ctx context.Context, j *job, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		level := slog.LevelWarn
		if busy := inUse(0); errors.As(err, &busy) || errors.Is(err, errOldKeys) {
			level = slog.LevelInfo
		}
		c.log.Log(ctx, level, "a conversion is not complete", "user", string(j.user), "goal", string(j.goal), "err", err)
	}
	if p := j.progress(); p.Done > 0 {
		c.log.Info("converted", "user", string(j.user), "goal", string(j.goal), "entries", p.Done, "bytes", p.Bytes,
			"left", p.Left, "seconds", c.now().Sub(j.began).Round(time.Millisecond).Seconds())
	}
}

// locked ends what cannot go on without the user's key.
func (c *converter) locked(u account.User) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if j := c.jobs[u]; j != nil && c.keyGone(j) {
		j.cancel()
	}
}

// pending says why a user who has gone must not be locked yet, or "".
func (c *converter) pending(u account.User) string {
	c.mu.Lock()
	j, l := c.jobs[u], c.looked[u]
	once := l != nil && l.once
	c.mu.Unlock()
	switch {
	case j != nil:
		return fmt.Sprintf("%d entries are left to %s", j.progress().Left, j.goal)
	case !once:
		return "was not looked at by the converter yet"
	}
	return ""
}

// of returns the user's conversion that goes on, or the last one since the unlock, or nil.
func (c *converter) of(u account.User) *control.Conversion {
	c.mu.Lock()
	j := c.jobs[u]
	if l := c.looked[u]; j == nil && l != nil {
		j = l.last
	}
	c.mu.Unlock()
	if j == nil {
		return nil
	}
	p := j.progress()
	return &p
}
