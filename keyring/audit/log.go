package audit

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

// headEvery is after how many lines at most the chain is made durable and its head moved on.
const headEvery = 256

// Log appends to the chain of this host. Safe for concurrent use, in any number of processes.
type Log struct {
	store string
	host  string
	key   *secret.Key
	log   *slog.Logger
	now   func() time.Time
	wait  time.Duration // how long an event waits for another process that writes
	last  time.Duration // how long Close does
	most  int           // events that wait in memory

	mu     sync.Mutex
	closed bool
	at     position // the end of the chain as this process last saw it; guarded by mu, as all below
	synced position // as far as the chain is durable
	lost   losses
	queue  []Event // those that found the log locked, in their order
}

// losses counts events that could not be written, until a line says so.
type losses struct {
	count       int
	first, last time.Time
	reason      string
}

// Open makes a Log of the store, which must be set up. Nothing is written before the first event: a log that cannot be
// written must not keep a daemon from starting. The site's keys stay the caller's and must live longer. log gets what
// Record cannot write, and one line for each event that is not a login, so that a copy of the end of the chain exists
// outside the store.
func Open(store string, s *site.Keys, log *slog.Logger) (*Log, error) {
	path := filepath.Join(store, recordsName)
	if st, err := os.Lstat(path); err != nil || !st.IsDir() {
		return nil, errors.Join(fmt.Errorf("%s is not the directory of a store's key records", path), err)
	}
	host, err := hostName()
	if err != nil {
		return nil, fmt.Errorf("cannot tell the name of this host for the audit log: %w", err)
	}
	return &Log{store: store, host: host, key: s.Audit, log: log, now: time.Now, wait: lockWait, last: closeWait, most: maxQueue}, nil
}

// Record appends an event and tells the log of the program when that fails. It is what keyring.Options.Audit wants.
func (l *Log) Record(e Event) {
	if err := l.Append(e); err != nil {
		l.log.Error("the audit log lost an event", "what", e.What, "user", string(e.User), "lost", l.Lost(), "err", err)
	}
}

// Append adds an event at the end of the chain. Events other than Unlock and Lock are durable when it returns, unless
// another process kept the log locked for three seconds: then the event stays in memory, and is written with those that
// follow as soon as the log is free. On an error, the event is lost: it is counted, and the next event that can be written
// is preceded by a line that says so. Errors are ErrClosed, ErrBusy when too many events wait already, secret.ErrWiped, and
// those of the system, such as ENOSPC.
func (l *Log) Append(e Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	var err error
	if len(l.queue) > 0 {
		err = l.enqueue(e) // nobody waits for a log that is known to be locked
	} else if err = l.append(l.wait, e); errors.Is(err, ErrBusy) {
		err = l.enqueue(e)
	}
	if err != nil {
		l.lost.add(l.now(), err)
		return fmt.Errorf("cannot write the audit log: %w", err)
	}
	return nil
}

// Lost returns how many events could not be written since the last line that told of such.
func (l *Log) Lost() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost.count
}

// Close makes the chain durable, and writes what still waits; it waits longer for that than Append, 15 seconds at most.
// It says in the chain what was lost if that is possible now. It is idempotent.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if len(l.queue) == 0 && l.lost.count == 0 && l.at == l.synced {
		return nil
	}
	if err := l.append(l.last, l.queue...); err != nil {
		if n := len(l.queue); n > 0 {
			l.log.Error("the audit log lost events", "events", n, "err", err)
		}
		return fmt.Errorf("cannot complete the audit log: %w", err)
	}
	return nil
}

func (s *losses) add(at time.Time, err error) {
	if s.count == 0 {
		s.first = at
	}
	s.count, s.last, s.reason = s.count+1, at, err.Error()
}

func (s *losses) event() Event {
	return Event{What: Lost, Detail: fmt.Sprintf("%d events from %s to %s: %s", s.count,
		s.first.UTC().Format(time.RFC3339), s.last.UTC().Format(time.RFC3339), s.reason)}
}

// append writes events, or only what the log has to say of itself if there are none.
func (l *Log) append(wait time.Duration, events ...Event) error {
	dir, err := openDir(l.store, true)
	if err != nil {
		return err
	}
	defer dir.Close()
	headFile, err := openFile(dir, headName(l.host), unix.O_RDWR|unix.O_CREAT)
	if err != nil {
		return err
	}
	defer headFile.Close() // releases the lock
	if err := lockFile(headFile, wait); err != nil {
		return err
	}
	w := &writer{dir: dir, head: headFile, host: l.host, key: l.key}
	defer w.close()
	if err := w.find(l.at); err != nil {
		return err
	}
	if l.lost.count > 0 {
		w.notes = append(w.notes, l.lost.event())
	}
	if err := w.write(events, l.now()); err != nil {
		return err
	}
	l.lost = losses{}
	l.at, l.synced = w.at, w.durable
	for i, at := range w.placed[len(w.placed)-len(events):] { // what the log says of itself comes before
		if e := events[i]; e.synced() {
			l.log.Info("audit", "what", e.What, "user", string(e.User), "by", e.By, "seq", at.seq, "mac", at.mac.String())
		}
	}
	return nil
}
