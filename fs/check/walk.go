package check

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/route"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// place is a directory of the store.
type place struct {
	dir         *backing.Dir
	view, store string // paths, for messages
	name        string // in the view
	route       *route.Dir
	root        bool
	// adrift says that the name of the directory, or of one above it, cannot be told, and so not whose it is.
	adrift bool
}

func (r *run) rootPlace() place {
	view := r.o.View
	if view == "" {
		view = "/"
	}
	return place{dir: r.root, view: view, store: r.o.Store, route: r.policy.Root(), root: true}
}

// child is the place of a subdirectory, without its dir.
func (p place) child(name string, s names.Stored) place {
	return place{
		view: join(p.view, name), store: join(p.store, s.Name), name: name,
		route: p.route.Child(name), adrift: p.adrift || s.Kind.Broken(),
	}
}

// finding begins a finding about an entry of p.
func (p place) finding(name, stored string) Finding {
	return Finding{View: join(p.view, name), Store: join(p.store, stored), User: string(p.user())}
}

// user is whose the entries of p are.
func (p place) user() account.User {
	if p.adrift {
		return ""
	}
	return p.route.User()
}

// wanted reports whether entries of p are to be checked at all.
func (r *run) wanted(p place) bool { return r.o.User == "" || p.user() == r.o.User }

// leads reports whether there may be something to check below p.
func (r *run) leads(p place) bool {
	return r.wanted(p) || !p.adrift && (p.route.Above() || p.route.Box())
}

// walk lists a directory and checks each entry. It streams: what it holds is one descriptor and few buffers for each
// directory on the way to the current entry. The error is that of the context.
func (r *run) walk(p place) error {
	d, err := p.dir.OpenDir(".")
	if err != nil {
		r.unreadable(Finding{View: p.view, Store: p.store, User: string(p.user())}, err)
		return nil
	}
	list := backing.NewLister(d)
	defer list.Close()
	r.tally.add(func(s *Summary) { s.Directories++ })
	for {
		e, ok, err := list.Peek()
		if err != nil {
			r.unreadable(Finding{View: p.view, Store: p.store, User: string(p.user())}, err)
			return nil
		}
		if !ok {
			return r.ctx.Err()
		}
		list.Skip()
		if e.Name == "." || e.Name == ".." {
			continue
		}
		if err := r.entry(p, e.Name, e.Type); err != nil {
			return err
		}
	}
}

// entry checks the entry of p with this stored name, and all below it. kind holds its S_IFMT bits, or 0 if they are not
// known.
func (r *run) entry(p place, stored string, kind uint32) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	name, s := r.codec.Decode(stored, p.root)
	if s.Kind == names.Hidden {
		r.hidden(p, stored)
		return nil
	}
	if kind == 0 {
		st, err := p.dir.Stat(stored)
		if err != nil {
			r.unreadable(p.finding(stored, stored), err)
			return nil
		}
		kind = st.Type()
	}
	if s.Long || s.Kind.Broken() || s.Kind != names.Encrypted {
		name, s = r.name(p, name, s)
	}
	switch kind {
	case unix.S_IFDIR:
		return r.descend(p, name, s)
	case unix.S_IFREG:
		if r.wanted(p) {
			return r.submit(job{at: p, name: name, stored: s})
		}
	case unix.S_IFLNK:
		if r.wanted(p) {
			r.link(p, name, s)
		}
	}
	return nil
}

func (r *run) descend(p place, name string, s names.Stored) error {
	c := p.child(name, s)
	if !r.leads(c) {
		return nil
	}
	var err error
	if c.dir, err = p.dir.OpenDir(s.Name); err != nil {
		if now, ok := r.renamed(p, name, s, err); ok {
			return r.descend(p, name, now)
		}
		if !errors.Is(err, unix.ENOTDIR) { // replaced meanwhile
			r.unreadable(p.finding(name, s.Name), err)
		}
		return nil
	}
	defer c.dir.Release()
	if c = r.identify(c); c.route.Box() && !r.wanted(c) {
		return nil
	}
	if r.wanted(c) {
		for _, f := range r.xattrsOf(c.dir.Fd(), p.finding(name, s.Name)) {
			r.found(f)
		}
	}
	return r.walk(c)
}

// renamed returns the stored name that a conversion has given the entry name of p since it was seen as s, and could not be
// opened: what was listed once may not be listed again.
func (r *run) renamed(p place, name string, s names.Stored, err error) (now names.Stored, ok bool) {
	if !isGone(err) {
		return s, false
	}
	now, ok = r.candidate(p, name)
	return now, ok && now.Name != s.Name
}

// submit hands a file to a worker.
func (r *run) submit(j job) error {
	j.at.dir.Retain()
	select {
	case r.jobs <- j:
		return nil
	case <-r.ctx.Done():
		j.at.dir.Release()
		return r.ctx.Err()
	}
}
