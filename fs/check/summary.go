package check

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// Amount is a number of regular files and of their stored bytes.
type Amount struct {
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
}

func (a *Amount) add(bytes int64) {
	a.Files++
	a.Bytes += bytes
}

// Summary says what was checked and how much was found. A file that is checked fully may have findings all the same.
type Summary struct {
	Findings    map[Kind]int64         `json:"findings"`    // by kind
	Damage      int64                  `json:"damage"`      // findings that are not informational
	Directories int64                  `json:"directories"` // listed
	Records     int64                  `json:"records"`     // key records read
	Audit       int64                  `json:"audit"`       // lines of the audit log that authenticate
	Full        Amount                 `json:"full"`        // every block opened, or empty
	Structure   Amount                 `json:"structure"`   // checked without their key
	Plain       Amount                 `json:"plain"`       // not encrypted: nothing to check them by
	Locked      map[account.User]int64 `json:"locked"`      // files of Structure whose user is locked, by user
	Manifest    *ManifestSummary       `json:"manifest,omitempty"`
	Duration    time.Duration          `json:"duration_ns"`
}

// tally counts while several goroutines work.
type tally struct {
	files, bytes atomic.Int64 // for Progress; bytes of files that are still being read included

	mu sync.Mutex
	s  Summary // guarded by mu
}

func newTally() *tally {
	return &tally{s: Summary{Findings: make(map[Kind]int64), Locked: make(map[account.User]int64)}}
}

func (t *tally) count(f Finding) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.s.Findings[f.Kind]++
	if f.Damage {
		t.s.Damage++
	}
}

// add changes the summary under its lock.
func (t *tally) add(f func(*Summary)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.s)
}

func (t *tally) summary(d time.Duration) Summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.s
	s.Findings, s.Locked, s.Duration = maps.Clone(s.Findings), maps.Clone(s.Locked), d
	return s
}
