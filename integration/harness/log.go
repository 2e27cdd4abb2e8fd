package harness

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// loud matches a log line that needs a reason: slog's text or JSON form, or the priority prefix of systemd; a Go panic and
// the race detector's report too.
var loud = regexp.MustCompile(`\blevel=(WARN|ERROR)|"level":"(WARN|ERROR)"|^<[0-4]>|^(WARN|ERROR)\b|^panic:|^fatal error:|DATA RACE`)

// Log is what the daemon wrote, over all its lives, and what of it the test has announced.
type Log struct {
	path      string
	mu        sync.Mutex
	announced []*regexp.Regexp
	checked   int // bytes judged so far
}

func newLog(t testing.TB, path string) *Log {
	t.Helper()
	l := &Log{path: path}
	if f, err := l.open(); err != nil {
		t.Fatal(err)
	} else if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *Log) open() (*os.File, error) {
	return os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
}

// All is everything that the daemon wrote.
func (l *Log) All() string {
	b, err := os.ReadFile(l.path)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// End is the end of what the daemon wrote, for messages.
func (l *Log) End() string {
	all := l.All()
	return all[max(0, len(all)-64<<10):]
}

// Announce says that lines matching the expression are expected from now on, whatever their level.
func (s *Site) Announce(expr string) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.announced = append(s.log.announced, regexp.MustCompile(expr))
}

// LogHas says whether the daemon has written a text, in any line.
func (s *Site) LogHas(text string) bool { return strings.Contains(s.log.All(), text) }

// WaitLog waits until the daemon has written a line that matches the expression, and returns all such lines. They count as
// announced.
func (s *Site) WaitLog(t testing.TB, expr string) []string {
	t.Helper()
	s.Announce(expr)
	re := regexp.MustCompile(expr)
	var found []string
	Eventually(t, time.Minute, "log line "+expr, func() bool {
		found = nil
		for _, line := range strings.Split(s.log.All(), "\n") {
			if re.MatchString(line) {
				found = append(found, line)
			}
		}
		return len(found) > 0
	})
	return found
}

// CheckLog fails the test for every warning and error that the daemon wrote since the last check, unless announced. It is
// called at the end of each site; a test that shares a site calls it at its own end.
func (s *Site) CheckLog(t testing.TB) {
	t.Helper()
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	b, err := os.ReadFile(l.path)
	if err != nil {
		t.Fatal(err)
	}
	fresh := b[l.checked:]
	fresh = fresh[:bytes.LastIndexByte(fresh, '\n')+1]
	l.checked += len(fresh)
	for _, line := range strings.Split(string(fresh), "\n") {
		if loud.MatchString(line) && !l.expected(line) {
			t.Errorf("unexpected in the daemon's log: %s", line)
		}
	}
}

func (l *Log) expected(line string) bool {
	for _, re := range l.announced {
		if re.MatchString(line) {
			return true
		}
	}
	return false
}

// Eventually calls ok until it is true, and fails the test when that takes longer than the limit.
func Eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		<-tick.C
	}
}
