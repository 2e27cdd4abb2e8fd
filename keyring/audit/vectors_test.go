package audit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFormatExample compares the example of FORMAT.md with what is written.
func TestFormatExample(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	l := b.open("mx1")
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	l.now = func() time.Time { return at }
	b.append(l, Event{User: "alice@example.org", What: SlotAdd, By: "root", Detail: "telephone"})
	format, err := os.ReadFile(filepath.Join("..", "..", "fs", "FORMAT.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range b.lines("2026-01.mx1.log") {
		if !strings.Contains(string(format), line) {
			t.Errorf("not in FORMAT.md: %s", line)
		}
	}
}
