package dovecot

import (
	"regexp"
	"strings"
	"testing"
)

var (
	complaint = regexp.MustCompile(`: (Error|Warning|Fatal|Panic): `)
	// variable is what differs between runs of the same commands.
	variable = regexp.MustCompile(`^.*?\d\d:\d\d:\d\d |<\d*><[^>]*>|\b\d+\b`)
	// refusal is an open of a private file that its locked user has to expect.
	refusal = regexp.MustCompile(`Permission denied|File Access denied`)
	private = regexp.MustCompile(`/(cur|new|tmp)/|dovecot\.index\.cache|/lucene-indexes|/dbox-Mails/u\.`)
	// weather is what Dovecot says on any filesystem now and then: of a busy machine, and of an indexer that is asked for the
	// first time.
	weather = regexp.MustCompile(`Time moved forwards|indexer: Error: conn .* valid VERSION line`)
	// unindexed is what follows where the text or the search index of a locked user was refused to the indexer.
	unindexed = regexp.MustCompile(`indexer failed to index mailbox|indexer-worker\(.*Error: Mailbox .* failed: `)
)

// complaints are the lines of Dovecot's log that are no mere information, without what differs between runs, and without
// refused opens of private files.
func (h *host) complaints(t testing.TB) []string {
	t.Helper()
	var all []string
	for _, line := range strings.Split(h.log(t), "\n") {
		if !complaint.MatchString(line) || weather.MatchString(line) || refusal.MatchString(line) && private.MatchString(line) ||
			h.conf == lucene && h.site != nil && unindexed.MatchString(line) {
			continue
		}
		all = append(all, variable.ReplaceAllString(strings.ReplaceAll(line, h.mail, "@"), "*"))
	}
	return all
}

// judgeLog fails the test for each complaint that is not among those known.
func (h *host) judgeLog(t testing.TB, known []string) {
	t.Helper()
	for _, line := range h.complaints(t) {
		fine := false
		for _, k := range known {
			fine = fine || k == line
		}
		if !fine {
			t.Errorf("dovecot complains: %s", line)
		}
	}
}
