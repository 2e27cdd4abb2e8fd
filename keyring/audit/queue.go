package audit

import (
	"errors"
	"fmt"
	"time"
)

// maxQueue is how many events may wait in memory: a few megabytes.
const maxQueue = 10000

// queuePause is how often the log is tried while events wait.
const queuePause = 100 * time.Millisecond

// enqueue keeps an event that found the log locked. The caller holds mu.
func (l *Log) enqueue(e Event) error {
	if len(l.queue) == l.most {
		return fmt.Errorf("%d events wait already: %w", l.most, ErrBusy)
	}
	if e.Time.IsZero() {
		e.Time = l.now()
	}
	l.queue = append(l.queue, e)
	if len(l.queue) == 1 {
		l.log.Warn("the audit log is locked by another process: events wait in memory", "what", e.What, "user", string(e.User))
		go l.drain()
	}
	return nil
}

// drain writes what waits as soon as the log is free, so that events do not wait for another one. Close ends it.
func (l *Log) drain() {
	for !l.drained() {
		time.Sleep(queuePause)
	}
}

// drained tries once, without waiting, and reports whether nothing is left to do.
func (l *Log) drained() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return true
	}
	err := l.append(0, l.queue...)
	if errors.Is(err, ErrBusy) {
		return false
	}
	n := len(l.queue)
	l.queue = nil
	if err == nil {
		l.log.Info("the audit log is free again: events that waited are written", "events", n)
		return true
	}
	for range n {
		l.lost.add(l.now(), err)
	}
	l.log.Error("the audit log lost events", "events", n, "lost", l.lost.count, "err", err)
	return true
}
