package audit

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

// found is one line of a chain as it was read. With an err other than errLine, nothing follows.
type found struct {
	segment segment
	no      int // of the line in the segment, from 1
	line    line
	torn    int64 // bytes after the last newline of the segment; there is no line then
	err     error
}

// Read calls f for each event of the user in the store's log, or for all events if u is empty: those of one host in the
// order in which they were written, those of several merged by time. It needs no lock and changes nothing. Lines that do not authenticate are left out, and ErrDamaged is returned at
// the end if there were any; Verify finds more. Other errors: ErrUnsupported, secret.ErrWiped, those of the system, and
// the one with which f ends the reading. A store without a log has no events.
func Read(store string, s *site.Keys, u account.User, f func(Event) error) error {
	dir, err := openDir(store, false)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the audit log: %w", err)
	}
	defer dir.Close()
	all, _, _, err := segments(dir)
	if err != nil {
		return fmt.Errorf("cannot read the audit log: %w", err)
	}
	var damaged error
	var chains []*chain
	for _, of := range byHost(all) {
		c := startChain(dir, of, s.Audit, func(where error) { damaged = errors.Join(damaged, where) })
		defer c.stop()
		chains = append(chains, c)
	}
	if err := merge(chains, u, f); err != nil {
		return err
	}
	if damaged != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, firstOf(damaged))
	}
	return nil
}

// firstOf keeps the message of a log that is damaged throughout short.
func firstOf(joined error) error {
	if many, ok := joined.(interface{ Unwrap() []error }); ok {
		return firstOf(many.Unwrap()[0])
	}
	return joined
}

// chain gives the events of one host, one at a time.
type chain struct {
	next func() (Event, error, bool)
	stop func()

	event Event
	err   error
	more  bool
}

func (c *chain) advance() { c.event, c.err, c.more = c.next() }

func startChain(dir *os.File, of []segment, key *secret.Key, damaged func(error)) *chain {
	events := func(yield func(Event, error) bool) {
		for f := range read(dir, of, key) {
			e, err := f.event()
			switch {
			case f.torn > 0:
				continue
			case errors.Is(err, errLine):
				damaged(fmt.Errorf("%s, line %d: %w", f.segment.name(), f.no, err))
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
	c := &chain{}
	c.next, c.stop = iter.Pull2(events)
	c.advance()
	return c
}

// event returns what the line says; an authentic line that says nothing sensible is as bad as another.
func (f *found) event() (Event, error) {
	if f.err != nil {
		return Event{}, f.err
	}
	e, err := f.line.event()
	if err != nil {
		return Event{}, fmt.Errorf("%w: %w", errLine, err)
	}
	e.Host = f.segment.host
	return e, nil
}

// merge gives the events of all chains to f, the oldest of the next ones first.
func merge(chains []*chain, u account.User, f func(Event) error) error {
	for {
		var first *chain
		for _, c := range chains {
			if c.more && (first == nil || c.event.Time.Before(first.event.Time)) {
				first = c
			}
		}
		if first == nil {
			return nil
		}
		if first.err != nil {
			return first.err
		}
		if u == "" || first.event.User == u {
			if err := f(first.event); err != nil {
				return err
			}
		}
		first.advance()
	}
}

func byHost(all []segment) [][]segment {
	var hosts [][]segment
	for i, s := range all {
		if i == 0 || all[i-1].host != s.host {
			hosts = append(hosts, nil)
		}
		hosts[len(hosts)-1] = append(hosts[len(hosts)-1], s)
	}
	return hosts
}

// read gives all lines of segments, in their order.
func read(dir *os.File, of []segment, key *secret.Key) iter.Seq[found] {
	return func(yield func(found) bool) {
		for _, s := range of {
			if !readSegment(dir, s, key, yield) {
				return
			}
		}
	}
}

// readSegment reports whether to go on with the next one.
func readSegment(dir *os.File, s segment, key *secret.Key, yield func(found) bool) bool {
	f, err := openFile(dir, s.name(), unix.O_RDONLY)
	if err != nil {
		yield(found{segment: s, err: err})
		return false
	}
	defer f.Close()
	r := newLines(f)
	for no := 1; ; no++ {
		b, n, err := r.next()
		if errors.Is(err, io.EOF) {
			return n == 0 || yield(found{segment: s, no: no, torn: n})
		}
		if err != nil {
			yield(found{segment: s, no: no, err: fmt.Errorf("%s: %w", f.Name(), err)})
			return false
		}
		l, err := parseLine(b, s.host, key)
		if err != nil && !errors.Is(err, errLine) {
			yield(found{segment: s, no: no, err: fmt.Errorf("%s: %w", f.Name(), err)})
			return false
		}
		if !yield(found{segment: s, no: no, line: l, err: err}) {
			return false
		}
	}
}
