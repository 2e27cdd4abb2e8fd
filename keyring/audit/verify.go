package audit

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

// Kinds of problems.
const (
	Changed     = "audit-changed"     // a line does not authenticate, or does not follow the one before it
	Removed     = "audit-removed"     // lines are missing
	Moved       = "audit-moved"       // a line stands where it was not written, or twice
	Cut         = "audit-cut"         // lines at the end are missing
	Unfinished  = "audit-unfinished"  // an interrupted write: no damage
	Noted       = "audit-noted"       // what the log says of its own losses: no damage
	Foreign     = "audit-foreign"     // a file that is none of ours: no damage
	Unsupported = "audit-unsupported" // a segment of another version: it cannot be judged
	Unreadable  = "audit-unreadable"  // a segment cannot be read
)

// maxProblems bounds what Verify keeps of a log that is damaged throughout.
const maxProblems = 1000

// Problem is something wrong with the log, or something to know.
type Problem struct {
	Kind    string `json:"kind"`
	Segment string `json:"segment"`        // name of the file
	Line    int    `json:"line,omitempty"` // from 1
	Detail  string `json:"detail"`
	Damage  bool   `json:"damage"` // the log does not say all that was written to it, or cannot be judged
}

// Summary is what Verify found.
type Summary struct {
	Hosts    int       `json:"hosts"`
	Segments int       `json:"segments"`
	Lines    int       `json:"lines"` // that authenticate
	Problems []Problem `json:"problems"`
}

// Damaged tells whether any problem is damage.
func (s *Summary) Damaged() bool {
	return slices.ContainsFunc(s.Problems, func(p Problem) bool { return p.Damage })
}

// Verify checks every line of the store's log and the chain that they form (FORMAT.md L4 to L6). It needs no lock, works
// while daemons write, and changes nothing. It finds lines that were changed, removed, moved, or put in, and an end that
// was cut off, unless the head of the chain was put back to an older state along with it, or a chain was removed as a
// whole: that only shows by comparison with the log of the daemon. The error is about reading, not about what was found.
func Verify(store string, s *site.Keys) (Summary, error) {
	var sum Summary
	dir, err := openDir(store, false)
	if errors.Is(err, os.ErrNotExist) {
		return sum, nil
	}
	if err != nil {
		return sum, fmt.Errorf("cannot read the audit log: %w", err)
	}
	defer dir.Close()
	// Heads first, and only then which segments there are: lines and segments that are added meanwhile do no harm.
	heads, err := openHeads(dir, s.Audit)
	if err != nil {
		return sum, fmt.Errorf("cannot read the audit log: %w", err)
	}
	err = sum.judge(dir, heads, s.Audit)
	return sum, err
}

// judge checks the segments that are there now against heads that were read before.
func (s *Summary) judge(dir *os.File, heads map[string]position, key *secret.Key) error {
	all, _, others, err := segments(dir)
	if err != nil {
		return fmt.Errorf("cannot read the audit log: %w", err)
	}
	for _, name := range others {
		s.add(Problem{Kind: Foreign, Segment: name, Detail: "it does not belong to the audit log"})
	}
	for _, of := range byHost(all) {
		s.Hosts++
		s.Segments += len(of)
		host := of[0].host
		v := &verifier{sum: s, head: heads[host]}
		delete(heads, host)
		if err := v.host(dir, of, key); err != nil {
			return err
		}
	}
	for host, h := range heads {
		if h.seq > 0 {
			s.add(Problem{Kind: Cut, Segment: headName(host), Damage: true, Detail: fmt.Sprintf("all %d lines of the host are missing", h.seq)})
		}
	}
	return nil
}

// openHeads reads what the heads of all chains say.
func openHeads(dir *os.File, key *secret.Key) (map[string]position, error) {
	_, hosts, _, err := segments(dir)
	if err != nil {
		return nil, err
	}
	heads := make(map[string]position)
	for _, host := range hosts {
		if heads[host], err = openHead(dir, host, key); err != nil {
			return nil, err
		}
	}
	return heads, nil
}

func openHead(dir *os.File, host string, key *secret.Key) (position, error) {
	f, err := openFile(dir, headName(host), unix.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		return position{}, nil
	}
	if err != nil {
		return position{}, err
	}
	defer f.Close()
	return readHead(f, host, key)
}

func (s *Summary) add(p Problem) {
	if len(s.Problems) < maxProblems {
		s.Problems = append(s.Problems, p)
	}
}

// gap is a range of line numbers that were not found where they belong.
type gap struct {
	first, last uint64
	segment     segment
	no          int
	noted       bool // the log itself says that they were lost
}

// verifier follows the chain of one host.
type verifier struct {
	sum   *Summary
	head  position
	began bool // the head was not there at first, but is now

	at   position // the last line in its place
	bad  uint64   // lines since then that do not authenticate
	gaps []gap
	last found
}

// closeBy is how many lines a writer puts before the one that tells of lost lines, at most.
const closeBy = 3

func (v *verifier) host(dir *os.File, of []segment, key *secret.Key) error {
	for f := range read(dir, of, key) {
		v.last = f
		switch {
		case f.torn > 0:
			v.add(Unfinished, f, false, "%d bytes of an interrupted write", f.torn)
		case f.err == nil:
			v.sum.Lines++
			v.line(f)
		case errors.Is(f.err, errLine):
			v.bad++
			v.add(Changed, f, true, "the line does not authenticate: it was changed, or put in")
		case errors.Is(f.err, ErrUnsupported):
			v.add(Unsupported, f, true, "%v", f.err)
			return nil
		case errors.Is(f.err, secret.ErrWiped):
			return f.err
		default:
			v.add(Unreadable, f, true, "%v", f.err)
			return nil
		}
	}
	if v.head.seq == 0 {
		// The first lines of the chain may have been written since the heads were read.
		late, err := openHead(dir, of[0].host, key)
		if err != nil {
			return err
		}
		v.began = late.seq > 0
	}
	v.end(of)
	return nil
}

func (v *verifier) add(kind string, f found, damage bool, format string, args ...any) {
	v.sum.add(Problem{Kind: kind, Segment: f.segment.name(), Line: f.no, Damage: damage, Detail: fmt.Sprintf(format, args...)})
}

// line judges an authentic line by its place.
func (v *verifier) line(f found) {
	l := f.line
	switch want := v.at.seq + 1; {
	case l.Seq < want:
		v.misplaced(f)
		return
	case l.Seq > want+v.bad:
		v.gaps = append(v.gaps, gap{first: want, last: l.Seq - 1 - v.bad, segment: f.segment, no: f.no})
	case l.Seq == want && v.bad > 0:
		// The lines between were put in.
	case l.Seq == want && l.Prev != v.at.mac.String():
		v.add(Changed, f, true, "line %d does not follow the one before it: that one was replaced", l.Seq)
	}
	v.at.seq, v.at.mac, v.bad = l.Seq, l.mac, 0
	switch l.What {
	case CutShort:
		if n := len(v.gaps); n > 0 && l.Seq-v.gaps[n-1].last <= closeBy {
			v.gaps[n-1].noted = true
		}
		fallthrough
	case Lost, Torn:
		v.add(Noted, f, false, "%s at %s: %s", l.What, l.Time, l.Detail)
	}
}

// misplaced judges a line with a number that has passed already.
func (v *verifier) misplaced(f found) {
	seq := f.line.Seq
	i := slices.IndexFunc(v.gaps, func(g gap) bool { return g.first <= seq && seq <= g.last })
	if i < 0 {
		v.add(Moved, f, true, "line %d stands here once more", seq)
		return
	}
	v.add(Moved, f, true, "line %d does not stand where it was written", seq)
	g := v.gaps[i]
	rest := slices.DeleteFunc([]gap{
		{g.first, seq - 1, g.segment, g.no, g.noted}, {seq + 1, g.last, g.segment, g.no, g.noted},
	}, func(g gap) bool { return g.first > g.last })
	v.gaps = slices.Replace(v.gaps, i, i+1, rest...)
}

// end reports what is missing.
func (v *verifier) end(of []segment) {
	for _, g := range v.gaps {
		if !g.noted {
			v.add(Removed, found{segment: g.segment, no: g.no}, true, "lines %d to %d are missing before this one", g.first, g.last)
		}
	}
	switch last := of[len(of)-1].name(); {
	case v.head.seq > v.at.seq+v.bad:
		v.sum.add(Problem{Kind: Cut, Segment: last, Damage: true,
			Detail: fmt.Sprintf("lines %d to %d are missing at the end", v.at.seq+v.bad+1, v.head.seq)})
	case v.head.seq == 0 && !v.began && v.at.seq > 0:
		v.sum.add(Problem{Kind: Noted, Segment: last, Detail: "the head of the chain is missing or damaged: lines cut off at the end would not show"})
	}
}
