// Package check looks through a store and says what of it could not be read again: names, headers, blocks, extended
// attributes, key records and the audit log. It changes nothing, needs no mount and no daemon, and may run beside one. What can be
// judged without a user's keys is always judged; blocks are opened where the key is at hand (FORMAT.md).
package check

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/check/manifest"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/route"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/seal"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

var (
	// ErrForeign says that the store was written under another site secret, so that nothing of it can be judged.
	ErrForeign = errors.New("the store belongs to another site secret")
	// ErrOutside says that a path lies neither below the view nor below the store, or among the key records.
	ErrOutside = errors.New("the path is not in the view")
	// ErrNotFound says that a path that was to be checked does not exist.
	ErrNotFound = errors.New("there is no such file in the store")
)

// Keys opens content keys of users. OpeningKey is called by several goroutines at once; its answer is remembered for
// each key, and the key must stay valid until Verify has returned. Errors: secret.ErrLocked, secret.ErrUnknownKey,
// secret.ErrNotEnrolled, and any other for a key record that is damaged.
type Keys interface {
	OpeningKey(account.User, secret.ID) (*secret.Key, error)
}

// Options say what to check. Store and Site are required.
type Options struct {
	Store string     // absolute path of the store's root
	View  string     // where the store is mounted, or would be: for messages and Paths
	Site  *site.Keys // stays the caller's
	Keys  Keys       // nil: all users count as locked

	Profile     string // as in the configuration, like the next three
	UserPath    string // template of the users' directories
	Private     []string
	Meta        []string
	RefusePlain bool // plain = "refuse"
	PlainNames  bool // names = "plain"

	Epoch time.Duration // delivery keys younger than this may still be in use
	Paths []string      // absolute paths below View or Store; none: everything
	User  account.User  // only what belongs to this user, unless empty

	// WriteManifest is given every message that is looked at, and Manifest is what it is compared with: either, both or none,
	// and not with Paths. Who made the writer completes it.
	WriteManifest *manifest.Writer
	Manifest      *Expected

	Workers  int            // files that are checked at the same time; 0: one for each CPU
	Progress func(Progress) // called a few times each second, by one goroutine; may be nil
}

// Progress is how far a run has come.
type Progress struct {
	Files, Bytes int64  // looked at so far, in stored bytes
	Path         string // path in the view of a file that is being looked at
}

const progressPause = 200 * time.Millisecond

// Verify checks a store and calls report for each thing it finds, one call at a time. It stops early when ctx ends; the
// summary then tells how far it came. Errors: that of ctx, ErrForeign, ErrOutside, ErrNotFound, and what keeps the root
// of the store from being read. Whatever cannot be read below the root is a finding.
func Verify(ctx context.Context, o Options, report func(Finding)) (Summary, error) {
	started := time.Now()
	r, err := newRun(ctx, o, report)
	if err != nil {
		return Summary{}, err
	}
	defer r.close()
	err = r.all(started)
	return r.tally.summary(time.Since(started)), err
}

// run is one Verify.
type run struct {
	ctx     context.Context
	o       Options
	root    *backing.Dir
	frozen  string // path of the store as Freeze gives it
	thaw    func()
	codec   *names.Codec
	xattrs  *seal.XAttrs
	policy  *route.Policy
	keys    *keyIndex
	tally   *tally
	current atomic.Pointer[string]
	jobs    chan job

	glance bool // only headers are looked at, for the manifest

	reporting sync.Mutex
	report    func(Finding)
	listing   sync.Mutex // orders calls of WriteManifest
	trouble   error      // why the manifest could not be written or compared; guarded by listing
}

func newRun(ctx context.Context, o Options, report func(Finding)) (*run, error) {
	if o.Manifest != nil && o.Manifest.head.User != "" && o.Manifest.head.User != o.User {
		return nil, ErrScope
	}
	r := &run{ctx: ctx, o: o, tally: newTally(), report: report, jobs: make(chan job)}
	var err error
	if r.policy, err = route.New(o.Profile, o.UserPath, o.Private, o.Meta); err != nil {
		return nil, err
	}
	keys, err := seal.NewNames(o.Site.NamesMAC, o.Site.NamesEnc)
	if err != nil {
		return nil, err
	}
	r.codec = names.New(keys, false)
	if r.xattrs, err = seal.NewXAttrs(o.Site.XAttr); err != nil {
		return nil, err
	}
	path, thaw, err := Freeze(o.Store)
	if err != nil {
		return nil, err
	}
	if r.root, err = backing.OpenRoot(path); err != nil {
		thaw()
		return nil, fmt.Errorf("cannot read the store %s: %w", o.Store, errors.Unwrap(err))
	}
	r.frozen, r.thaw, r.keys = path, thaw, newKeyIndex()
	return r, nil
}

func (r *run) close() {
	r.root.Release()
	r.thaw()
}

// all checks key records first: they tell whose the keys of the files are.
func (r *run) all(started time.Time) error {
	targets, err := r.resolve()
	if err != nil {
		return err
	}
	defer release(targets)
	if err := r.records(r.usersOf(targets)); err != nil {
		return err
	}
	if len(r.o.Paths) == 0 && r.o.User == "" {
		r.auditLog()
	}
	stop := r.showProgress()
	defer stop()
	if err = r.files(targets); err != nil || len(r.o.Paths) > 0 {
		return err
	}
	r.unused(started.Add(-r.o.Epoch))
	if r.o.Manifest != nil {
		return r.settle()
	}
	return nil
}

// files walks the tree and has each file checked by one of the workers.
func (r *run) files(targets []target) error {
	workers := r.o.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			w := &worker{run: r}
			for j := range r.jobs {
				w.check(j)
			}
		})
	}
	err := r.walkAll(targets)
	close(r.jobs)
	wg.Wait()
	if err == nil {
		err = r.ctx.Err() // the workers may have stopped early
	}
	r.listing.Lock()
	defer r.listing.Unlock()
	return errors.Join(err, r.trouble)
}

func (r *run) walkAll(targets []target) error {
	if len(targets) == 0 {
		return r.walk(r.rootPlace())
	}
	for _, t := range targets {
		if err := r.entry(t.place, t.stored, 0); err != nil {
			return err
		}
	}
	return nil
}

// showProgress calls Progress until the function that it returns is called.
func (r *run) showProgress() (stop func()) {
	if r.o.Progress == nil {
		return func() {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(progressPause)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				p := Progress{Files: r.tally.files.Load(), Bytes: r.tally.bytes.Load()}
				if path := r.current.Load(); path != nil {
					p.Path = *path
				}
				r.o.Progress(p)
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

// found counts and reports a finding.
func (r *run) found(f Finding) {
	f.Damage = !f.Kind.Informational()
	r.reporting.Lock()
	defer r.reporting.Unlock()
	r.tally.count(f)
	r.report(f)
}

// isGone says whether err means that an entry has gone, or has another name now.
func isGone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) }

// unreadable reports what the lower filesystem refuses; what has gone meanwhile is no finding.
func (r *run) unreadable(f Finding, err error) {
	if isGone(err) {
		return
	}
	f.Kind, f.Detail = Unreadable, err.Error()
	r.found(f)
}
