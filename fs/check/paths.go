package check

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// target is an entry that was asked for: its directory, with a count, and its stored name.
type target struct {
	place  place
	stored string
}

func release(targets []target) {
	for _, t := range targets {
		t.place.dir.Release()
	}
}

// resolve finds the entries of Options.Paths; none stands for everything.
func (r *run) resolve() ([]target, error) {
	var out []target
	for _, p := range r.o.Paths {
		rel, stored, ok := r.below(p)
		if !ok {
			release(out)
			return nil, fmt.Errorf("%s: %w", p, ErrOutside)
		}
		if rel == "" {
			release(out)
			return nil, nil
		}
		t, err := r.find(strings.Split(rel, "/"), stored)
		if err != nil {
			release(out)
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		out = append(out, t)
	}
	return out, nil
}

// below returns the path of p below store or view, whichever is nearer, and whether it consists of stored names.
func (r *run) below(p string) (rel string, stored, ok bool) {
	p = path.Clean(p)
	viewRel, inView := within(r.o.View, p)
	storeRel, inStore := within(r.o.Store, p)
	if inStore && (!inView || len(storeRel) < len(viewRel)) {
		return storeRel, true, true
	}
	return viewRel, false, inView
}

func within(root, p string) (string, bool) {
	if root == "" {
		return "", false
	}
	root = path.Clean(root)
	if p == root {
		return "", true
	}
	return strings.CutPrefix(p, strings.TrimSuffix(root, "/")+"/")
}

// find goes down the components of a path.
func (r *run) find(components []string, stored bool) (target, error) {
	p := r.rootPlace()
	p.dir.Retain()
	last := len(components) - 1
	for _, c := range components[:last] {
		next, err := r.enter(p, c, stored)
		p.dir.Release()
		if err != nil {
			return target{}, err
		}
		p = next
	}
	_, s, err := r.component(p, components[last], stored)
	if err != nil {
		p.dir.Release()
	}
	return target{p, s.Name}, err
}

// enter opens the directory that component c of a path names in p.
func (r *run) enter(p place, c string, stored bool) (place, error) {
	for try := 0; ; try++ {
		name, s, err := r.component(p, c, stored)
		if err != nil {
			return place{}, err
		}
		next := p.child(name, s)
		next.dir, err = p.dir.OpenDir(s.Name)
		switch {
		case err == nil:
			return r.identify(next), nil
		case isGone(err) && try < again: // perhaps a conversion has renamed it
		case isGone(err), errors.Is(err, unix.ENOTDIR):
			return place{}, ErrNotFound
		default:
			return place{}, err
		}
	}
}

// component finds one component of a path in p, without reporting anything.
func (r *run) component(p place, c string, stored bool) (string, names.Stored, error) {
	if !stored {
		s, ok := r.candidate(p, c)
		if !ok {
			return "", s, ErrNotFound
		}
		return c, s, nil
	}
	name, s := r.codec.Decode(c, p.root)
	if s.Kind == names.Hidden {
		return "", s, ErrOutside
	}
	if _, err := p.dir.Stat(c); err != nil {
		return "", s, ErrNotFound
	}
	if s.Long {
		if name, s = r.sideName(p.dir, s); s.Kind.Broken() {
			name = c
		}
	}
	return name, s, nil
}

// usersOf returns whose entries are to be checked; nil stands for everybody's.
func (r *run) usersOf(targets []target) map[account.User]bool {
	if r.o.User != "" {
		return map[account.User]bool{r.o.User: true}
	}
	if len(targets) == 0 {
		return nil
	}
	users := make(map[account.User]bool)
	for _, t := range targets {
		p := t.place
		if p.user() == "" {
			if name, s, err := r.component(p, t.stored, true); err == nil {
				p = p.child(name, s)
			}
		}
		switch {
		case p.user() != "":
			users[p.user()] = true
		case !p.adrift && (p.route.Above() || p.route.Box()):
			return nil
		}
	}
	return users
}
