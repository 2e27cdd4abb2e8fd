package export

import (
	"errors"
	"time"

	"github.com/mailcryptfs/mailcryptfs/fs/offline"
)

// What is looked through is looked through again for what came or changed its name meanwhile: so many times, and for so
// long as something that was listed is gone when it is opened, then with a moment between.
const (
	relists   = 5
	relisting = time.Minute
	moment    = 20 * time.Millisecond
)

var errNames = errors.New("messages and folders change their names faster than they can be read: export again")

// settle calls look until it finds nothing more and misses nothing.
func (e *exporter) settle(at []string, look func(pass int) (more, missed bool, err error)) error {
	for began, pass := time.Now(), 0; ; pass++ {
		if pass >= relists {
			e.pause()
		}
		if err := e.ctx.Err(); err != nil {
			return err
		}
		more, missed, err := look(pass)
		switch {
		case err != nil:
			return err
		case !missed && (pass > 0 && !more || pass >= relists):
			return nil
		case missed && pass >= relists && time.Since(began) > relisting:
			return e.failed(at, errNames)
		}
	}
}

// pause lets whoever changes the store finish. The end of the context ends it.
func (e *exporter) pause() {
	select {
	case <-e.ctx.Done():
	case <-time.After(moment):
	}
}

// state is what is known of a directory of the store: some of these bits.
type state uint8

const (
	whole      state = 1 << iota // all in and below it is exported, so that it may go
	unreadable                   // and reported
	replaced                     // by another one of its name, and reported
)

// root exports all below a directory that no other one holds. A folder that is renamed, also to a place that was passed
// already, is found in the next pass.
func (e *exporter) root(at []string, read func() error) error {
	e.dirs = map[string]state{show(at): whole} // a user who is removed is missed by nobody
	e.inodes = map[string]uint64{}
	return e.settle(at, func(int) (more, missed bool, err error) {
		foundBefore, missedBefore := e.found, e.missed
		err = e.enter(at, read)
		return e.found > foundBefore, e.missed > missedBefore, err
	})
}

// sub exports a directory below dir.
func (e *exporter) sub(dir *offline.Dir, name string, at []string, read func(*offline.Dir, []string) error) error {
	return e.enter(at, func() error {
		sub, err := dir.Dir(name)
		if err != nil {
			return err
		}
		defer sub.Close()
		return read(sub, at)
	})
}

// enter calls read for the directory at, and says of an error of it what it means: that it has gone, perhaps to another
// name, or that it cannot be read.
func (e *exporter) enter(at []string, read func() error) error {
	key, missed := show(at), e.missed
	if e.dirs[key]&unreadable != 0 {
		return nil
	}
	err := read()
	switch {
	case gone(err):
		if e.dirs[key]&whole == 0 {
			e.missed++
		}
		return nil
	case err != nil:
		return e.unreadable(at, err)
	case e.missed == missed:
		e.dirs[key] |= whole
	}
	return nil
}

// first says whether the directory at, with this inode number, is read for the first time. Later, only directories below
// it are looked for. Another directory that was given the name of one that was read, or one that was lost while it was
// read, is reported: what was exported at its place is in the way.
func (e *exporter) first(at []string, ino uint64) (bool, error) {
	key := show(at)
	before, known := e.inodes[key]
	switch {
	case !known:
		e.inodes[key] = ino
		e.found++
		return true, nil
	case before == ino || e.dirs[key]&replaced != 0:
		return false, nil
	}
	e.dirs[key] |= replaced
	if len(at) > 0 && e.dirs[show(at[:len(at)-1])]&replaced != 0 {
		return false, nil // it came with that one
	}
	return false, e.failed(at, errNames)
}

// unreadable reports a directory, once.
func (e *exporter) unreadable(at []string, err error) error {
	e.dirs[show(at)] |= unreadable
	return e.failed(at, err)
}

// notice is called when something in dir, at, was gone: if dir itself has no name any more, it is missed.
func (e *exporter) notice(dir *offline.Dir, at []string) {
	if _, err := dir.List(); gone(err) {
		e.lost(at)
	}
}

// lost says that the directory at has gone while it was read: what is found under that name later was not exported whole.
func (e *exporter) lost(at []string) {
	e.missed++
	e.inodes[show(at)] = 0
}
