package audit

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// busy makes a log of one event, which another process keeps locked until free is called. Its events do not wait.
func busy(t *testing.T) (b *bench, l *Log, free func()) {
	t.Helper()
	b = newBench(t)
	l = b.open("mx1")
	l.wait = 0
	b.some(l, 1)
	f, err := os.OpenFile(b.path("mx1.head"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // again, where a test has not
	return b, l, func() {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// settle waits until no event waits.
func settle(l *Log) {
	for left := 1; left > 0; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		left = len(l.queue)
		l.mu.Unlock()
	}
}

// TestBusy keeps events while the log is locked, and writes them in their order, and before all others, when it is free.
func TestBusy(t *testing.T) {
	t.Parallel()
	b, l, free := busy(t)
	l.Record(Event{User: "alice", What: Unlock})
	l.Record(Event{User: "alice", What: SlotAdd})
	l.Record(Event{User: "alice", What: Lock})
	if l.Lost() != 0 || strings.Contains(b.said.String(), "lost") || len(b.events("alice")) != 0 {
		t.Errorf("%d lost; log: %s", l.Lost(), b.said)
	}
	free()
	settle(l)
	got := b.events("alice")
	if len(got) != 3 || got[0].What != Unlock || got[1].What != SlotAdd || got[2].What != Lock || !got[0].Time.Before(got[2].Time) {
		t.Errorf("%+v", got)
	}
	b.some(l, 2)
	b.wantKinds()
	if !strings.Contains(b.said.String(), "msg=audit what=slot-add user=alice") {
		t.Errorf("log: %s", b.said)
	}
}

// TestBusyAtTheEnd closes a log with events that wait: one whose lock is free soon, and one whose lock is not.
func TestBusyAtTheEnd(t *testing.T) {
	t.Parallel()
	b, l, free := busy(t)
	l.last = time.Hour
	l.Record(Event{User: "alice", What: Unlock})
	closed := make(chan error, 1)
	go func() { closed <- l.Close() }()
	free()
	if err := <-closed; err != nil || len(b.events("alice")) != 1 {
		t.Errorf("%v, %+v", err, b.events("alice"))
	}
	b.wantKinds()

	b, l, _ = busy(t)
	l.last = 0
	l.Record(Event{User: "alice", What: Unlock})
	if err := l.Close(); !errors.Is(err, ErrBusy) || !strings.Contains(b.said.String(), "lost events") {
		t.Errorf("%v; log: %s", err, b.said)
	}
}

// TestBusyForLong fills the memory for events that wait: what does not fit is counted, and the log says so later.
func TestBusyForLong(t *testing.T) {
	t.Parallel()
	b, l, free := busy(t)
	l.most = 5
	for range l.most + 2 {
		l.Record(Event{User: "alice", What: Unlock})
	}
	if l.Lost() != 2 || !strings.Contains(b.said.String(), "lost an event") {
		t.Errorf("%d lost", l.Lost())
	}
	free()
	settle(l)
	s := b.wantKinds(Noted)
	if l.Lost() != 0 || s.Damaged() || !strings.Contains(s.Problems[0].Detail, "2 events from 2026-01-02") || len(b.events("alice")) != l.most {
		t.Errorf("%d lost, %+v", l.Lost(), s)
	}
}
