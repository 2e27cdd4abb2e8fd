package cyrus

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The priorities of syslog's facility "mail" that are complaints.
const mailEmergency, mailWarning = 2<<3 + 0, 2<<3 + 4

var (
	// complaint matches a line of Cyrus, with its priority.
	complaint = regexp.MustCompile(`^<(\d+)>.*? cyrus/`)
	// variable is what differs between runs of the same commands.
	variable = regexp.MustCompile(`^<\d+>\S+ +\d+ [\d:]+ |\d+|SESSIONID=\S+`)
	// ours is what tests are the cause of: they look whether a port listens, end sessions without a word, and deliver
	// faster than idled listens.
	ours = regexp.MustCompile(`Lost connection to client|signaled to death by signal 15|error sending message NOTIFY to idled`)
)

// complaints are the lines of Cyrus in syslog that are no mere information, without what differs between runs.
func (h *host) complaints(t testing.TB) (all []string) {
	t.Helper()
	for _, line := range strings.Split(h.syslog.String(), "\n") {
		m := complaint.FindStringSubmatch(line)
		if m == nil || ours.MatchString(line) {
			continue
		}
		if n, err := strconv.Atoi(m[1]); err == nil && n >= mailEmergency && n <= mailWarning {
			all = append(all, variable.ReplaceAllString(line, "*"))
		}
	}
	return all
}

// judgeLog fails the test for each complaint that is neither known nor matches the expression, if there is one.
func (h *host) judgeLog(t testing.TB, known []string, expected ...string) {
	t.Helper()
	for _, line := range h.complaints(t) {
		fine := slices.Contains(known, line)
		for _, e := range expected {
			fine = fine || regexp.MustCompile(e).MatchString(line)
		}
		if !fine {
			t.Errorf("cyrus complains: %s", line)
		}
	}
}
