package inode

import (
	"sync"
	"time"
)

// Listers has listings of a directory and conversions of names in it take turns: an entry
// whose stored name changes during a listing would be in it twice, or not at all. Its lock
// is a leaf.
type Listers struct {
	mu      sync.Mutex
	listing int           // listings that have begun and are not at their end
	waiting int           // that wait for the end of the turn of conversions
	turn    time.Time     // until then it is the turn of conversions
	free    chan struct{} // closed when no listing is left; nil if nobody waits for that
	vain    bool          // somebody has waited for that in vain
}

// How long listings and conversions wait for each other. A conversion that finds no end
// comes back later.
const (
	turnLength = 100 * time.Millisecond
	turnWait   = 500 * time.Millisecond
)

// Begin begins a listing, at the end of the turn of conversions. The caller takes the
// directory's NS before the first entry is read, and may let go of it at once: a conversion
// that has not seen this listing ends before.
func (l *Listers) Begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for wait := time.Until(l.turn); wait > 0; wait = time.Until(l.turn) {
		l.waiting++
		l.mu.Unlock()
		time.Sleep(wait)
		l.mu.Lock()
		l.waiting--
	}
	l.listing++
}

// End ends a listing. If it was the last one, conversions that wait, or have waited in
// vain, have their turn.
func (l *Listers) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listing--; l.listing > 0 {
		return
	}
	if l.free != nil || l.vain {
		l.turn = time.Now().Add(turnLength)
	}
	if l.free != nil {
		close(l.free)
		l.free = nil
	}
	l.vain = false
}

// Listed reports whether a listing is under way. With NS held for writing, none begins
// after that.
func (l *Listers) Listed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.listing > 0
}

// Turn waits for the turn of conversions, and reports whether it has come. No lock may be
// held.
func (l *Listers) Turn() bool {
	l.mu.Lock()
	if l.listing == 0 && (l.waiting == 0 || time.Now().Before(l.turn)) {
		l.mu.Unlock()
		return true
	}
	if l.vain {
		l.mu.Unlock()
		return false
	}
	if l.free == nil {
		l.free = make(chan struct{})
	}
	free := l.free
	l.mu.Unlock()
	limit := time.NewTimer(turnWait)
	defer limit.Stop()
	select {
	case <-free:
		return true
	case <-limit.C:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.vain = l.listing > 0
	return !l.vain
}
