package content

import (
	"bytes"
	"errors"
	"sync"
)

var errInjected = errors.New("injected")

// op is one change that a recorder has seen, or a mark between them.
type op struct {
	kind opKind
	off  int64  // of a write, below or asked for
	data []byte // of a write, below or asked for; what was acknowledged
	size int64  // of a truncate, below or asked for
}

type opKind int

const (
	lowWrite opKind = iota
	lowTruncate
	lowSync
	askWrite    // the user of the file begins a write
	askTruncate // ... a truncate
	acked       // a sync has returned with this plaintext
)

// recorder is a stored file in memory that keeps every change, and can fail.
type recorder struct {
	memLower
	mu       sync.Mutex
	ops      []op
	noSync   bool // syncs are not recorded: the negative control
	calls    int  // calls that change something, counted from 1
	failAt   int  // the call that fails; 0 for none
	fault    fault
	dead     bool // since a fault of kind kill: nothing arrives any more
	readFail bool // reads fail too when their turn comes
}

// fault is how a call fails.
type fault int

const (
	failNothing fault = iota // an error, and nothing was done
	failHalf                 // a short write
	failOneByte              // a write of all but one byte
	failKill                 // as failNothing, and so are all calls after it: the process is gone
)

func (r *recorder) next() (fail bool) {
	r.calls++
	if r.dead {
		return true
	}
	if r.calls == r.failAt {
		r.dead = r.fault == failKill
		return true
	}
	return false
}

func (r *recorder) ReadAt(p []byte, off int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.readFail && r.next() || r.dead {
		return 0, errInjected
	}
	return r.memLower.ReadAt(p, off)
}

func (r *recorder) WriteAt(p []byte, off int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(p)
	var err error
	if r.next() {
		err = errInjected
		switch r.fault {
		case failNothing, failKill:
			n = 0
		case failHalf:
			n /= 2
		case failOneByte:
			n--
		}
	}
	if n > 0 {
		r.ops = append(r.ops, op{kind: lowWrite, off: off, data: bytes.Clone(p[:n])})
		_, _ = r.memLower.WriteAt(p[:n], off)
	}
	return n, err
}

func (r *recorder) Truncate(stored int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next() {
		return errInjected
	}
	r.ops = append(r.ops, op{kind: lowTruncate, size: stored})
	return r.memLower.Truncate(stored)
}

func (r *recorder) Sync(bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next() {
		return errInjected
	}
	if !r.noSync {
		r.ops = append(r.ops, op{kind: lowSync})
	}
	return nil
}

// mark puts a mark between the changes.
func (r *recorder) mark(o op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, o)
}

// revive starts a new process after a kill: what the old one wrote is there, and durable, because a mount syncs the
// filesystem of the store before it serves.
func (r *recorder) revive() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dead, r.failAt = false, 0
	if !r.noSync {
		r.ops = append(r.ops, op{kind: lowSync})
	}
}
