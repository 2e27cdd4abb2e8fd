// Package session decides when users leave: it asks sources who is in use, and locks who is not. It holds no keys and
// opens no mail; whom to lock how is given to it.
package session

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// Source knows some of the reasons why users are in use.
type Source interface {
	// Name says in a few words where the source looks, for people.
	Name() string
	// InUse returns, of the users given at least, those who are in use now and why, in a few words. A source that cannot
	// tell returns an error that says what to do; one whose server does not run returns nobody. It is asked once for nobody
	// when everybody is locked.
	InUse(ctx context.Context, unlocked []account.User) (map[account.User]string, error)
	// Decides reports whether the silence of the source about the user means that nobody uses the mail. A source that
	// only ever adds reasons returns false.
	Decides(account.User) bool
}

// Unlocked is a user whose mail can be read.
type Unlocked struct {
	User  account.User
	Since time.Time
	Used  time.Time // of the last login; not before Since
}

// Options say what a Keeper works with. All but Pending, Cap and Log are required.
type Options struct {
	Sources  []Source
	Unlocked func() []Unlocked // of this moment
	// Lock locks a user unless he has logged in after Used (zero: also then), or is locked already, and reports whether
	// it did.
	Lock func(u Unlocked, why string) (bool, error)
	// Pending reports why a user who is not in use must stay unlocked for some more time, or "". It is asked with no
	// lock held. Nil: nothing ever is pending.
	Pending func(account.User) string
	Grace   time.Duration // from the last use, or login, to the lock
	Cap     time.Duration // from the unlock to the lock, whatever the sources say; 0: no limit
	Now     func() time.Time
	Log     *slog.Logger // nil: nothing is logged
}

// View is what a Keeper knows of one unlocked user.
type View struct {
	Because string    // why the user is not locked; empty before the first Step
	LockAt  time.Time // when he will be if nothing happens; zero if that is not foreseen
}

// Keeper locks users who are gone. It is safe for concurrent use.
type Keeper struct {
	o Options

	step sync.Mutex // held during Step
	idle bool       // nobody was unlocked at the last one; guarded by step

	mu      sync.Mutex
	users   map[account.User]*user // guarded by mu
	failing map[string]error       // sources that gave an error when last asked, by name; guarded by mu
}

// user is what is remembered of one unlocked user.
type user struct {
	since time.Time // of the unlock that this is about
	used  time.Time // when he was last in use
	view  View
}

// New returns a Keeper. Nothing happens before Step or Run.
func New(o Options) *Keeper {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Pending == nil {
		o.Pending = func(account.User) string { return "" }
	}
	return &Keeper{o: o, users: make(map[account.User]*user), failing: make(map[string]error)}
}

// Run takes a Step for each tick until ctx ends.
func (k *Keeper) Run(ctx context.Context, tick <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
			k.Step(ctx)
		}
	}
}

// View returns what the last Step knew of the user.
func (k *Keeper) View(u account.User) View {
	k.mu.Lock()
	defer k.mu.Unlock()
	if known := k.users[u]; known != nil {
		return known.view
	}
	return View{}
}

// Problems returns, by source, why it does not answer.
func (k *Keeper) Problems() map[string]error {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make(map[string]error, len(k.failing))
	for name, err := range k.failing {
		all[name] = err
	}
	return all
}

// Step asks all sources once, and locks who is gone. Concurrent calls wait for each other.
func (k *Keeper) Step(ctx context.Context) {
	k.step.Lock()
	defer k.step.Unlock()
	unlocked := k.o.Unlocked()
	names := make([]account.User, len(unlocked))
	for i, u := range unlocked {
		names[i] = u.User
	}
	k.forget(names)
	if len(unlocked) == 0 && k.idle {
		return
	}
	k.idle = len(unlocked) == 0 // asked once more: what sources remember of users ends with the lock
	now := k.o.Now()            // before: who came while a source thought about it may not be in its answer
	reasons := k.ask(ctx, names)
	if ctx.Err() != nil {
		return // what a source could not finish says nothing
	}
	for _, u := range unlocked {
		k.judge(u, reasons[u.User], now)
	}
}

// forget drops what is known of users who are locked.
func (k *Keeper) forget(unlocked []account.User) {
	keep := make(map[account.User]bool, len(unlocked))
	for _, u := range unlocked {
		keep[u] = true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for u := range k.users {
		if !keep[u] {
			delete(k.users, u)
		}
	}
}

// ask returns one reason for each user who is in use, that of the first source that gives one.
func (k *Keeper) ask(ctx context.Context, users []account.User) map[account.User]string {
	reasons := make(map[account.User]string)
	for _, s := range k.o.Sources {
		inUse, err := s.InUse(ctx, users)
		if ctx.Err() != nil {
			return nil
		}
		k.noteSource(s, err)
		for _, u := range users {
			reason := inUse[u]
			if reason == "" && err != nil && s.Decides(u) {
				reason = s.Name() + " does not answer"
			}
			if reason != "" && reasons[u] == "" {
				reasons[u] = reason
			}
		}
	}
	return reasons
}

// noteSource logs a failing source once, and once that it works again.
func (k *Keeper) noteSource(s Source, err error) {
	k.mu.Lock()
	before := k.failing[s.Name()]
	if err != nil {
		k.failing[s.Name()] = err
	} else {
		delete(k.failing, s.Name())
	}
	k.mu.Unlock()
	switch {
	case err != nil && before == nil:
		k.o.Log.Warn("cannot tell whose mail is in use: users stay unlocked", "source", s.Name(), "err", err)
	case err == nil && before != nil:
		k.o.Log.Info("a source of sessions answers again", "source", s.Name())
	}
}

// judge keeps or locks one user.
func (k *Keeper) judge(u Unlocked, reason string, now time.Time) {
	known := k.known(u)
	if k.o.Cap > 0 && now.Sub(u.Since) >= k.o.Cap {
		u.Used = time.Time{} // whatever he does
		k.lock(u, "session_cap is over", now.Sub(known.used))
		return
	}
	switch {
	case reason != "":
		known.used = now
		k.set(u.User, known, View{Because: reason})
		return
	case !k.decided(u.User):
		known.used = now
		k.set(u.User, known, View{Because: "no source of sessions is configured"})
		return
	}
	if end := known.used.Add(k.o.Grace); now.Before(end) {
		k.set(u.User, known, View{Because: "was in use until " + known.used.Local().Format(time.TimeOnly), LockAt: end})
		return
	}
	if pending := k.o.Pending(u.User); pending != "" {
		k.set(u.User, known, View{Because: pending})
		return
	}
	k.lock(u, "nobody uses the mail", now.Sub(known.used))
}

// decided reports whether any source would know of sessions of the user.
func (k *Keeper) decided(u account.User) bool {
	for _, s := range k.o.Sources {
		if s.Decides(u) {
			return true
		}
	}
	return false
}

// known returns a copy of what is remembered; a login counts as use: its session may not be known anywhere yet.
func (k *Keeper) known(u Unlocked) user {
	k.mu.Lock()
	defer k.mu.Unlock()
	known := k.users[u.User]
	if known == nil || !known.since.Equal(u.Since) {
		return user{since: u.Since, used: u.Used}
	}
	now := *known
	if now.used.Before(u.Used) {
		now.used = u.Used
	}
	return now
}

func (k *Keeper) set(u account.User, known user, v View) {
	if v.LockAt.IsZero() && k.o.Cap > 0 {
		v.LockAt = known.since.Add(k.o.Cap)
	}
	known.view = v
	k.mu.Lock()
	defer k.mu.Unlock()
	k.users[u] = &known
}

func (k *Keeper) lock(u Unlocked, why string, idle time.Duration) {
	locked, err := k.o.Lock(u, why)
	switch {
	case err != nil:
		k.o.Log.Error("cannot lock a user who is gone", "user", string(u.User), "err", err)
	case locked:
		k.o.Log.Info("session ended", "user", string(u.User), "because", why, "after_last_use", idle.Round(time.Millisecond))
	}
}
