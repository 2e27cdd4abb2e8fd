// Package worker converts the entries of a user's tree in the background: plain
// entries and content under site keys to the user's key, or all of it back to plain
// files. It works beside the mail server through package tree, which keeps the view
// unchanged; a pass that is cut short is taken up by the next one.
package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/tree"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// Limits bound what a worker takes from the machine; 0 means no limit.
type Limits struct {
	FilesPerSecond int
	BytesPerSecond int
	Users          int // passes at once
}

// Worker converts trees. It is safe for concurrent use.
type Worker struct {
	tree  *tree.Tree
	log   *slog.Logger
	files *rate.Limiter
	bytes *rate.Limiter
	slots chan struct{}
}

// New returns a Worker over t.
func New(t *tree.Tree, log *slog.Logger, l Limits) *Worker {
	return &Worker{tree: t, log: log, files: limiter(l.FilesPerSecond), bytes: limiter(l.BytesPerSecond), slots: make(chan struct{}, max(1, l.Users))}
}

func limiter(perSecond int) *rate.Limiter {
	if perSecond <= 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), perSecond)
}

// Report counts what a pass has met.
type Report struct {
	Entries int64 `json:"entries"` // looked at
	Left    int64 `json:"left"`    // to be converted and not converted yet
	Bytes   int64 `json:"bytes"`   // stored bytes of those
	Done    int64 `json:"done"`    // converted
	Written int64 `json:"written"` // bytes written for them
	Busy    int64 `json:"busy"`    // in use: another pass will try
	Locked  int64 `json:"locked"`  // not readable without the user's key
	Failed  int64 `json:"failed"`  // damaged, or refused by the store; logged
	Refused int64 `json:"refused"` // of those: plain entries, by plain = "refuse"
}

// Complete reports whether nothing is left that a pass could convert.
func (r Report) Complete() bool { return r.Left == r.Done && r.Busy == 0 }

// link is a file with several links, and the owner of some of them: a mailbox that
// changed hands may have links to those of its former owner.
type link struct {
	file  backing.Key
	owner account.User
}

// pass is one walk over the tree of a user.
type pass struct {
	*Worker
	ctx    context.Context
	user   account.User
	keyed  bool // the user was unlocked at the beginning: one who is not enrolled any more was locked, too
	goal   tree.Goal
	dry    bool
	linked map[link][]tree.Name // files with several links
	links  int                  // names in linked
	whole  bool                 // linked is complete
	held   []uint64             // directories of linked names: they keep their names until these are converted

	mu     sync.Mutex
	report Report
	show   func(Report)
}

// Run walks the tree of user u and converts what goal g asks for; with dry it only
// counts. show, if not nil, is called with the counts so far after each entry. The
// error is that of ctx, or of the tree itself; single files that fail are counted
// and logged.
func (w *Worker) Run(ctx context.Context, u account.User, g tree.Goal, dry bool, show func(Report)) (Report, error) {
	select {
	case w.slots <- struct{}{}:
	case <-ctx.Done():
		return Report{}, ctx.Err()
	}
	defer func() { <-w.slots }()
	p := &pass{
		Worker: w, ctx: ctx, user: u, keyed: w.tree.Keys.Holds(u), goal: g, dry: dry, linked: map[link][]tree.Name{}, show: show,
	}
	defer p.release()
	err := p.places()
	return p.report, err
}

// walk converts everything below directory n, children before the names of their
// directories.
func (p *pass) walk(n *inode.Inode) error {
	entries, err := p.tree.List(n) // at once: converting changes it
	if err != nil && !p.passed(err) {
		return err
	}
	for _, e := range entries {
		if err := p.entry(tree.Name{Dir: n, Name: e.Name}, e.Type == unix.S_IFDIR); err != nil {
			return err
		}
	}
	if !p.dry {
		p.tree.DropLeftovers(n)
	}
	return nil
}

func (p *pass) walkChild(n *inode.Inode, name string) error {
	child, err := p.tree.Lookup(n, name)
	if err != nil || child.Type != unix.S_IFDIR {
		return nil // gone, or replaced since it was listed
	}
	defer p.hold(child.ID, p.links)
	return p.walk(child.Inode)
}

// hold keeps a directory that was looked up until the end if linked names were found
// in it, which is when there are more than before; else it is forgotten.
func (p *pass) hold(id uint64, before int) {
	if p.links > before {
		p.held = append(p.held, id)
	} else {
		p.tree.Forget(id, 1)
	}
}

// visit converts one entry, or remembers it if it is one of several links.
func (p *pass) visit(n tree.Name) {
	need, st, err := p.tree.Needs(n.Dir, n.Name, p.goal)
	p.count(func(r *Report) {
		r.Entries++
		if need {
			r.Left++
			r.Bytes += st.Size
		}
	})
	switch {
	case err != nil:
		p.failed(n, 1, err)
	case need && !p.dry && st.Nlink > 1 && st.Type() == unix.S_IFREG:
		l := link{st.Key(), p.tree.Owner(n.Dir)}
		p.linked[l] = append(p.linked[l], n)
		p.links++
	case need && !p.dry:
		p.convert([]tree.Name{n}, st.Size)
	}
}

func (p *pass) convertLinked() {
	p.whole = true // whatever links there are beyond these are not in this user's tree
	for _, names := range p.linked {
		p.convert(names, 0)
	}
}

func (p *pass) convert(names []tree.Name, size int64) {
	if p.files.Wait(p.ctx) != nil || p.waitBytes(size) != nil {
		return
	}
	written, err := p.tree.Convert(names, p.goal, p.whole)
	if err != nil {
		p.failed(names[0], int64(len(names)), err)
		return
	}
	p.count(func(r *Report) {
		r.Done += int64(len(names))
		r.Written += written
	})
}

// waitBytes waits for size bytes in steps that the limiter can give.
func (p *pass) waitBytes(size int64) error {
	if p.bytes.Limit() == rate.Inf {
		return nil
	}
	for step := int64(p.bytes.Burst()); size > 0; size -= step {
		if err := p.bytes.WaitN(p.ctx, int(min(step, size))); err != nil {
			return err
		}
	}
	return nil
}

// passed reports whether err is of an entry that has gone since it was found. One that may have come back elsewhere, or is
// refused by a file server for the moment, counts as in use: what was not seen proves nothing.
func (p *pass) passed(err error) bool {
	stale := tree.Errno(err) == unix.ESTALE
	if stale {
		p.count(func(r *Report) { r.Busy++ })
	}
	return stale || tree.Gone(err)
}

// failed counts an entry, one of so many links, that could not be converted.
func (p *pass) failed(n tree.Name, links int64, err error) {
	switch {
	case p.passed(err):
		return
	case errors.Is(err, tree.ErrBusy):
		p.count(func(r *Report) { r.Busy += links })
		return
	case errors.Is(err, secret.ErrLocked), p.keyed && !p.tree.Keys.Holds(p.user) && errors.Is(err, secret.ErrNotEnrolled):
		p.count(func(r *Report) { r.Locked += links })
		return
	}
	p.count(func(r *Report) {
		r.Failed += links
		if tree.IsRefused(err) {
			r.Refused += links
		}
	})
	p.log.Warn("cannot convert an entry: it stays as it is", "user", p.user, "path", p.tree.PathOf(n), "error", err)
}

func (p *pass) count(f func(*Report)) {
	p.mu.Lock()
	f(&p.report)
	r := p.report
	p.mu.Unlock()
	if p.show != nil {
		p.show(r)
	}
}
